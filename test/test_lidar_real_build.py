# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A real LiDAR detector in INT8, calibrated on four of KITTI's frames and judged on the others.

The half point is of AP at an overlap of 0.5 in bird's eye view. The four others have twelve
labelled objects, ten of them cars: one that changes its rank among false alarms moves the mean by
a point, so that half a point allows for none. It does not show that half a point is lost at most
on other roads; benchmarks/lidar_int8.py tells how far that can be said.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from av_compress.cli.main import main
from av_compress.data.kitti import KittiFolder
from av_compress.engines.bundle import Bundle, load_bundle
from av_compress.engines.onnxruntime import OnnxRuntimeEngine
from av_compress.engines.pipeline import Pipeline
from av_compress.metrics.accuracy import InSpace
from av_compress.metrics.coco_protocol import DetectionAP
from av_compress.tasks.registry import make_task

pytestmark = pytest.mark.shared_data

TASK = Path(__file__).parent / "data" / "tasks" / "tiny_pillars.yaml"
CALIBRATION, GATE = (10, 20, 30, 40), (50, 60, 70, 80)
# The convolutions at the plane's full resolution: by `av-compress sensitivity`, of all the ones
# that cost most when they alone are INT8.
EXCLUDE = {"one": ["/r/b1/b1.[01]/*", "/r/u1/*"], "two": ["*b1.[01]*", "*u1*"]}


def recipe(folder: Path, data: Path, form: str) -> Path:
    sources = {}
    for name, numbers in (("calibration", CALIBRATION), ("gate", GATE)):
        split = folder / f"{name}.txt"
        split.write_text("\n".join(f"{number:06d}" for number in numbers))
        place = {"path": str(data / "kitti"), "split": str(split)}
        sources[name] = {"source": {"type": "kitti", "view": "camera", **place}, "samples": 4}
    task = yaml.safe_load(TASK.read_text())
    content = {
        "model": str(data / "tiny_e2e.onnx"),
        "task": task,
        "calibration": sources["calibration"],
        "gate": {**sources["gate"], "max_loss": 0.5},
        "precision": {"exclude": EXCLUDE[form], "migrate": True},
        "candidates": ["int8"],
        "emitters": ["tensorrt"],
    }
    if form == "two":
        task["input"]["encoder"]["padding"] = "none"
        parts = {"encoder": "tiny_pfe.onnx", "backbone": "tiny_rpn.onnx"}
        content["model"] = {part: str(data / name) for part, name in parts.items()}
        content["optimize"] = {"pad_voxels": True}
    path = folder / f"{form}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("form", ["one", "two"])
def test_int8_sees_what_fp32_sees(form: str, tmp_path: Path, shared_data: Path):
    data = shared_data / "lidar"
    assert main(["build", str(recipe(tmp_path, data, form)), "--output", str(tmp_path / "b")]) == 0
    bundle = load_bundle(tmp_path / "b")
    record = bundle.manifest.artefacts["tensorrt"]
    assert record.int8_mac_share >= 0.8
    assert record.bytes < 1.5e6  # No empty plane of 3.4 MB is in it.
    assert record.gate is not None
    assert record.gate.figures["agreement_ap50"] >= 99.5
    fp32, int8 = on_labels(bundle, data)
    assert fp32.per_class["car"].ap50 > 0.65
    assert int8.ap50 >= fp32.ap50 - 0.005


def on_labels(bundle: Bundle, data: Path) -> list[DetectionAP]:
    """Return what FP32 and INT8 reach against the labels of the clouds calibration did not see."""
    judge, source = InSpace(), KittiFolder(data / "kitti", "camera")
    task = bundle.task().for_measuring()
    source_task = make_task(yaml.safe_load(TASK.read_text())).for_measuring()
    pipelines = [
        Pipeline(source_task, OnnxRuntimeEngine(data / "tiny_e2e.onnx")),
        Pipeline(task, bundle.open_pipeline(emitter="tensorrt").engine),
    ]
    names = task.class_names
    seen = {f"{number:06d}" for number in CALIBRATION}
    frames = [i for i in range(len(source)) if Path(source.key(i)).stem not in seen]
    assert len(frames) == len(source) - len(CALIBRATION)
    labels = [judge.in_classes(source.labels(i), source.class_names, names) for i in frames]
    found = [[p.process(source.read(i)).result for i in frames] for p in pipelines]
    return [judge.on_labels(results, labels, names) for results in found]
