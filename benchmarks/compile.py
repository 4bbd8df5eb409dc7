# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What TensorRT for RTX makes of every real model in every precision, without a card.

    python benchmarks/compile.py [--data ../shared/data] [--models PART ...]

Each model as FP32, FP16, INT8 (every weighted node), INT8 by the default rules, mixed (every
third weighted node spared), FP8 where the target has it, and migrated (every weighted node INT8,
channels centred and aligned). Each is compiled for one compute capability at a time, in a process
of its own: seconds of parser and builder, peak memory of the process, size of the plan, kernels,
and bytes that they move for a frame. Calibrated on random inputs: types and placement decide
here, values do not. Which form a build takes of all these, choice.py measures. Fails where a node
that was to be an integer is not, or a model is refused.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import peak_memory_mib, save_results
from onnx import helper

from av_compress.build.plan_parts import account_of
from av_compress.compress.emit.quantize import narrow_plan, quantize, tensors_to_observe
from av_compress.compress.observe.calibrate import Calibrator, MagnitudeProbe
from av_compress.compress.observe.channels import ChannelObserver
from av_compress.compress.optimize.prepare import prepare_model
from av_compress.compress.plan.precision import PrecisionPlan, PrecisionRules, make_plan
from av_compress.compress.refine.insert import insert_affines
from av_compress.compress.refine.refine import affines_of, choose_affines, layer_inputs
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.compile import compile_plan
from av_compress.engines.tensorrt.module import load_module
from av_compress.tensors import Tensors

ROOT = Path(__file__).parent.parent
CAPABILITIES = ("8.6", "8.9", "12.0")
# FP8 kernels came with this one.
FP8_FROM = 8.9
FRAMES = 4
DEFAULT = PrecisionRules()
WHOLE = PrecisionRules(first=True, prediction=True, depthwise=True, gemv=True, min_channels=1)


def inputs_of(model: onnx.ModelProto) -> Iterator[Tensors]:
    """Yield random inputs; open extents are 1."""
    rng = np.random.default_rng(0)
    for _ in range(FRAMES):
        yield {
            value.name: rng.normal(
                size=[dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
            ).astype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
            for value in model.graph.input
        }


def forms_of(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield every form by name."""
    whole = make_plan(model, WHOLE)
    spared = {node.node: "every third" for node in whole.nodes[::3]}
    plans = {
        "FP16": make_plan(model, replace(DEFAULT, exclude=("*",))),
        "INT8": whole,
        "INT8, default rules": make_plan(model, DEFAULT),
        "mixed": whole.spared(spared),
    }
    yield "FP32", model
    for name, plan in plans.items():
        yield name, emitted(model, plan, "tensorrt")
    yield "FP8", emitted(model, whole, "tensorrt_fp8")
    yield "INT8, migrated", emitted(migrated(model, whole), whole, "tensorrt")


def emitted(model: onnx.ModelProto, plan: PrecisionPlan, emitter: str) -> onnx.ModelProto:
    calibrator = Calibrator(model, tensors_to_observe(model, plan, emitter), threads=1)
    probe = MagnitudeProbe(model, threads=1)
    for tensors in inputs_of(model):
        calibrator.observe(tensors)
        probe.observe(tensors)
    ranges = {name: (seen.min, seen.max) for name, seen in calibrator.observers.items()}
    narrowed = narrow_plan(model, plan, emitter, probe.magnitudes)
    return quantize(model, narrowed, ranges, probe.magnitudes, emitter)


def migrated(model: onnx.ModelProto, plan: PrecisionPlan) -> onnx.ModelProto:
    inside = plan.quantised()
    observer = ChannelObserver(model, sorted(set(layer_inputs(model, inside).values())), threads=1)
    for tensors in inputs_of(model):
        observer.observe(tensors)
    return insert_affines(model, affines_of(choose_affines(model, inside, observer.reservoirs)))


def compile_here(path: Path, capability: str) -> dict[str, Any]:
    """Compile one file in this process."""
    data = path.read_bytes()
    before = peak_memory_mib()
    options = CompileOptions(capabilities=(capability,))
    plan = compile_plan(load_module("tensorrt_rtx"), data, options)
    peak = peak_memory_mib()
    model = onnx.load_model_from_string(data)
    account = account_of(model, plan)
    return {
        "seconds": round(plan.seconds, 2),
        "peak_mib": round(peak),
        "grown_mib": round(peak - before),
        "plan_kib": round(len(plan.data) / 1024),
        "kernels": account.kernels,
        "activation_mb": round(account.activation_bytes / 1e6, 2),
        "weights_mb": round(account.constant_bytes / 1e6, 2),
        "conversions": account.conversions,
        "convolutions": dict(account.convolutions),
        "asked_int8": sum(node.asked in {"int8", "fp8"} for node in account.nodes),
        "differing": [node.node for node in account.differing],
    }


def compile_apart(path: Path, capability: str) -> dict[str, Any]:
    """Compile one file in a process of its own."""
    command = [sys.executable, __file__, "--one", str(path), capability]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return {"refused": said[-1] if said else f"it ended with {done.returncode}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(path: Path) -> dict[str, Any]:
    model = prepare_model(path).model
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for form, emitted_form in forms_of(model):
            file = Path(folder) / "model.onnx"
            file.write_bytes(emitted_form.SerializeToString())
            targets = [c for c in CAPABILITIES if form != "FP8" or float(c) >= FP8_FROM]
            found[form] = {target: compile_apart(file, target) for target in targets}
            show(path.stem, form, found[form])
    return found


def show(name: str, form: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    for capability, row in found.items():
        if "refused" in row:
            print(f"{name:26} {form:20} {capability:>5} refused: {row['refused']}", flush=True)
            continue
        differing = f", NOT INT8: {', '.join(row['differing'])}" if row["differing"] else ""
        print(
            f"{name:26} {form:20} {capability:>5} {row['seconds']:6.2f} s {row['peak_mib']:5} MiB "
            f"{row['kernels']:4} kernels {row['activation_mb']:8.2f} MB{differing}",
            flush=True,
        )


def wrong(figures: Mapping[str, Any]) -> list[str]:
    """Name what was refused, and what was to be an integer and is not."""
    rows = [
        (f"{model}, {form}, {capability}", row)
        for model, forms in figures.items()
        for form, targets in forms.items()
        for capability, row in targets.items()
    ]
    refused = [f"{where}: {row['refused']}" for where, row in rows if "refused" in row]
    return refused + [
        f"{where}: {row['differing']}" for where, row in rows if row.get("differing")
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models", nargs="+", default=[""], help="parts of file names")
    parser.add_argument("--one", nargs=2, metavar=("FILE", "CAPABILITY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(compile_here(Path(args.one[0]), args.one[1])))
        return 0
    paths = sorted(args.data.glob("*/*.onnx"))
    chosen = [path for path in paths if any(part in path.stem for part in args.models)]
    figures = {path.stem: measure(path) for path in chosen}
    if args.models == [""]:
        save_results("compile", figures, ["tensorrt-rtx-cu12"])
    found = wrong(figures)
    print("\n".join(f"NOT held: {text}" for text in found) or "held")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
