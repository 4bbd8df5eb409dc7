# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a card makes of bundles: copies, compilation, load, latency and throughput.

    python benchmarks/gpu.py --bundle DIR [DIR ...] [--device INDEX|UUID]

Each bundle is compiled, loaded and timed (`av-compress benchmark`) with each backend of TensorRT
that is installed, and timed with ONNX Runtime's CUDA provider, in a copy of its own and with
empty caches. What the card or a backend refuses stands in the result with its reason. Without a
card nothing is measured or written: exit code 2.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import save_results

from av_compress.build.compile import compile_bundle
from av_compress.engines.bundle import Bundle, load_bundle
from av_compress.engines.cuda import CudaContext, Device, copy_in, copy_out, elapsed_ns
from av_compress.engines.machine import describe, find_card
from av_compress.engines.onnxruntime import CUDA, OrtOptions
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.module import compiles_ahead_of_time, load_module
from av_compress.errors import AvCompressError
from av_compress.validate.benchmark.contestants import Wanted
from av_compress.validate.benchmark.measure import BenchmarkOptions
from av_compress.validate.benchmark.output import benchmark_json
from av_compress.validate.benchmark.run import benchmark

BACKENDS = ("tensorrt", "tensorrt_rtx")
COPIED = 64 << 20
ROUNDS = 20


def copies(card: Device) -> dict[str, float]:
    """Return GB a second in and out, from page-locked and from other memory."""
    found: dict[str, float] = {}
    with CudaContext.open(card.uuid) as cuda:
        stream, buffer = cuda.stream(), cuda.device_buffer(COPIED)
        before, after = cuda.event(), cuda.event()
        arrays = {
            "page_locked": cuda.pinned((COPIED,), np.uint8),
            "other": np.zeros(COPIED, np.uint8),
        }
        for name, array in arrays.items():
            ways: Mapping[str, Callable[[], None]] = {
                "in": lambda array=array: copy_in(stream, buffer, array),
                "out": lambda array=array: copy_out(stream, array, buffer),
            }
            for way, copy in ways.items():
                taken = []
                for _ in range(ROUNDS):
                    before.record(stream)
                    copy()
                    after.record(stream)
                    after.synchronize()
                    taken.append(elapsed_ns(before, after))
                found[f"{name}_{way}_gb_per_s"] = round(COPIED / max(1.0, median(taken)), 3)
    return found


def with_tensorrt(
    bundle: Bundle, backend: str, card: Device, options: BenchmarkOptions
) -> dict[str, Any]:
    """Compile, load and time a bundle; what goes wrong is the result."""
    found: dict[str, Any] = {}
    try:
        trt = load_module(backend)
        ahead = compiles_ahead_of_time(trt)
        wanted = CompileOptions(
            capabilities=(card.capability,) if ahead else (),
            batch=(1, bundle.manifest.max_batch, bundle.manifest.max_batch),
        )
        for name in ("compile_s", "compile_again_s"):
            made = compile_bundle(bundle, backend, wanted, lambda label: None, True, card.uuid)
            found[name] = made.record.seconds
        found |= {"plan_kib": made.record.bytes >> 10, "warnings": list(made.warnings)}
        for name in ("load_s", "load_again_s"):
            started = time.perf_counter()
            with closing(bundle.open_engine(backend, device=card.uuid)):
                found[name] = round(time.perf_counter() - started, 3)
        found |= timed(bundle, Wanted((backend,), device=card.uuid), options)
    except AvCompressError as error:
        found["refused"] = str(error)
    return found


def with_onnxruntime(bundle: Bundle, card: Device, options: BenchmarkOptions) -> dict[str, Any]:
    chosen = OrtOptions((CUDA,), provider_options={CUDA: {"device_id": str(card.index)}})
    wanted = Wanted(("onnxruntime",), device=card.uuid, ort=chosen)
    try:
        return timed(bundle, wanted, options)
    except AvCompressError as error:
        return {"refused": str(error)}


def timed(bundle: Bundle, wanted: Wanted, options: BenchmarkOptions) -> dict[str, Any]:
    result, _ = benchmark(bundle, wanted, options)
    models = benchmark_json(result)["models"]
    for model in models:
        # Empty, and the same for all.
        del model["layers"], model["turn_medians_ms"]
    return {"models": models}


def measure(root: Path, card: Device, options: BenchmarkOptions) -> dict[str, Any]:
    """Measure one bundle in a copy of its own."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AV_COMPRESS_CACHE"] = str(Path(folder) / "cache")
        copy = Path(shutil.copytree(root, Path(folder) / root.resolve().name))
        shutil.rmtree(copy / "plans", ignore_errors=True)
        bundle = load_bundle(copy)
        found = {name: with_tensorrt(bundle, name, card, options) for name in BACKENDS}
        found["onnxruntime"] = with_onnxruntime(bundle, card, options)
    return without(found, folder)


def without(value: Any, folder: str) -> Any:
    """Take the temporary folder's name out of texts."""
    if isinstance(value, Mapping):
        return {key: without(one, folder) for key, one in value.items()}
    if isinstance(value, list):
        return [without(one, folder) for one in value]
    return value.replace(f"{folder}/", "") if isinstance(value, str) else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--device", default="0", metavar="INDEX|UUID")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each model (3)")
    args = parser.parse_args()
    try:
        card = find_card(args.device)
        if card is None:
            print("there is no NVIDIA card here: nothing was measured", file=sys.stderr)
            return 2
        options = BenchmarkOptions(seconds=args.seconds)
        figures = {
            "card": describe(card),
            "copies": copies(card),
            "bundles": {root.resolve().name: measure(root, card, options) for root in args.bundle},
        }
    except AvCompressError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    save_results("gpu", figures, ["pycuda", "tensorrt", "tensorrt-rtx-cu12"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
