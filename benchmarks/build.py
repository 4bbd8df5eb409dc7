# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Wall time and peak memory of a whole build with a search, for few and for many samples.

    python benchmarks/build.py [--data ../shared/data] [--samples 32 128] [--size 320]

`av-compress build` in a process of its own, on light_person_detector made twice as wide (3.5
million parameters, the same detections; see widen.py). It calibrates on PNG images cut out of the
train images and mirrored, searches with 40 evaluations at most (INT8 is left out of the
candidates: it would pass, and nothing be searched), and is judged on the val images.
Memory is the peak resident memory of the build's processes together, looked at ten times a
second, or the kernel's own peak of the first one, whichever is larger.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import yaml
from common import save_results
from fidelity import ROOT
from widen import widen

from av_compress.compress.optimize.prepare import prepare_model
from av_compress.data.coco import CocoSource

MODEL, STRIDES = "light_person_detector", (8, 16, 32)
EVALUATIONS, LARGEST_MIB, GROWTH_MIB = 40, 1536, 64
EVERYTHING = {"migrate": True, "first": True, "prediction": True, "min_channels": 1}
PERIOD_S = 0.1


def wide_detector(path: Path, size: int) -> tuple[onnx.ModelProto, float]:
    """Return the detector for images of size x size, and its million parameters."""
    model = widen(prepare_model(path).model)
    cells = sum((size // stride) ** 2 for stride in STRIDES)
    _set_extents(model.graph.input[0], {2: size, 3: size})
    _set_extents(model.graph.output[0], {1: cells})
    parameters = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True), parameters / 1e6


def _set_extents(value: onnx.ValueInfoProto, extents: Mapping[int, int]) -> None:
    for axis, extent in extents.items():
        value.type.tensor_type.shape.dim[axis].dim_value = extent


def write_images(source: CocoSource, folder: Path, count: int) -> None:
    """Write `count` PNG images: random parts of the source's images, half of them mirrored."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = source.read(number % len(source)).pixels
        extents = [int(extent * rng.uniform(0.6, 1.0)) for extent in pixels.shape[:2]]
        top, left = (
            int(rng.integers(0, whole - part + 1))
            for whole, part in zip(pixels.shape[:2], extents)
        )
        part = pixels[top : top + extents[0], left : left + extents[1]]
        part = part[:, ::-1] if rng.random() < 0.5 else part
        cv2.imwrite(str(folder / f"{number:04d}.png"), part)


def write_recipe(folder: Path, size: int, coco: Path, samples: int, emitters: list[str]) -> Path:
    task = yaml.safe_load((ROOT / "test/data/tasks" / f"{MODEL}.yaml").read_text())
    task["input"] |= {"width": size, "height": size}
    val = {
        "type": "coco",
        "path": str(coco),
        "annotations": str(coco / "instances_val2017.json"),
    }
    recipe = {
        "model": "detector.onnx",
        "task": task,
        "calibration": {
            "source": {"type": "images", "path": "images"},
            "samples": samples,
            "sampling": "stride",
        },
        "gate": {
            "source": val,
            "samples": 27,
            "sampling": "stride",
            "metric": "agreement_ap50",
            "max_loss": 2.0,
        },
        "precision": EVERYTHING,
        "search": {"evaluations": EVALUATIONS},
        # INT8 alone would pass at once, and nothing be searched.
        "candidates": ["mixed", "fp16"],
        "emitters": emitters,
    }
    path = folder / f"samples{samples}.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def resident_mib(root: int) -> float:
    """Return the resident memory of a process and of all that it started, in MiB."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:  # It has ended.
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    waiting, total = [root], 0.0
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, [])
        total += _status_mib(process, "VmRSS")
    return total


def _status_mib(process: int, key: str) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def watch(command: list[str], log: Path) -> tuple[int, float, float]:
    """Run a command; return its exit code, its seconds, and its peak memory in MiB."""
    started, peak = time.perf_counter(), 0.0
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        while process.poll() is None:
            own = _status_mib(process.pid, "VmHWM")
            peak = max(peak, own, resident_mib(process.pid))
            time.sleep(PERIOD_S)
    return process.returncode, time.perf_counter() - started, peak


def measure(folder: Path, recipe: Path, samples: int) -> dict[str, Any]:
    output = folder / f"bundle{samples}"
    command = [sys.executable, "-m", "av_compress", "build", str(recipe), "--output", str(output)]
    log = folder / f"samples{samples}.log"
    code, seconds, peak = watch(command, log)
    found: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "peak_mib": round(peak),
        "exit_code": code,
    }
    if code == 0:
        manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
        found["int8_mac_share"] = {
            form: round(record["int8_mac_share"], 4)
            for form, record in manifest["artefacts"].items()
        }
    else:
        said = log.read_text(encoding="utf-8").splitlines()
        found["said"] = said[-1].replace(str(folder), "...") if said else ""
    print(f"{samples} samples: {found}", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--samples", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--size", type=int, default=320, help="height and width of the input")
    parser.add_argument("--emitters", nargs="+", default=["tensorrt"], help="forms to build")
    args = parser.parse_args()
    camera = args.data.resolve() / "camera"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, parameters = wide_detector(camera / f"{MODEL}.onnx", args.size)
        onnx.save(model, folder / "detector.onnx")
        train = CocoSource(camera / "coco/instances_train2017.json", camera / "coco")
        write_images(train, folder / "images", max(args.samples))
        runs = {}
        for samples in args.samples:
            recipe = write_recipe(folder, args.size, camera / "coco", samples, args.emitters)
            runs[str(samples)] = measure(folder, recipe, samples)
    figures = {
        "million_parameters": round(parameters, 2),
        "size": args.size,
        "evaluations": EVALUATIONS,
        "emitters": args.emitters,
        "runs": runs,
    }
    save_results("build", figures)
    peaks = [run["peak_mib"] for run in runs.values()]
    held = max(peaks) < LARGEST_MIB and max(peaks) - min(peaks) < GROWTH_MIB
    held = held and all(run["exit_code"] == 0 for run in runs.values())
    print(f"under {LARGEST_MIB} MiB, not growing with samples: {'held' if held else 'NOT'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
