# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A LiDAR model through the builder, evaluate and replay of a camera's, by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from helpers_lidar_world import TASK, scene, write_kitti, write_models

from av_compress.cli.main import main
from av_compress.compress.join import join_pillar_model
from av_compress.data.bag_writer import BagWriter
from av_compress.data.bags import BagClouds
from av_compress.data.kitti import KittiFolder
from av_compress.data.ros_types import make_typestore, rosbags
from av_compress.engines.bundle import load_bundle
from av_compress.engines.onnxruntime import OnnxRuntimeEngine
from av_compress.engines.pipeline import Pipeline
from av_compress.metrics.kitti import kitti_average_precision
from av_compress.metrics.labels3d import map_labels_3d
from av_compress.tasks.registry import make_task

FRAMES, STEP_NS = 3, 100_000_000
BAG = {"type": "bag", "path": "drive"}
TWO_FILES = {"encoder": "encoder.onnx", "backbone": "backbone.onnx"}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Return a folder with models, labelled clouds, and a bag of clouds."""
    folder = tmp_path_factory.mktemp("lidar")
    write_models(folder)
    write_kitti(folder / "kitti", 10)
    parts = [onnx.load(folder / f"{part}.onnx") for part in ("encoder", "backbone")]
    joined = join_pillar_model(*parts, make_task(TASK).settings.input.grid)
    onnx.save(joined, folder / "whole.onnx")
    with BagWriter(folder / "drive") as writer:
        for index in range(FRAMES):
            points, _ = scene(100 + index)
            kind = np.dtype([(name, "f4") for name in ("x", "y", "z", "reflectivity")])
            cloud = np.ascontiguousarray(points).view(kind)[:, 0]
            writer.write_cloud("/points", cloud, (index + 1) * STEP_NS, "lidar")
    return folder


def recipe(world: Path, name: str, **changes) -> Path:
    source = {"type": "kitti", "path": "kitti", "view": "camera"}
    content = {
        "model": "whole.onnx",
        "task": "task.yaml",
        "calibration": {"source": source, "samples": 4},
        "gate": {"samples": 6, "metric": "ap50", "max_loss": 0.5},
        "candidates": ["int8"],
        **changes,
    }
    (world / name).write_text(yaml.safe_dump(content))
    return world / name


@pytest.fixture(scope="module")
def bundle(world: Path) -> Path:
    output = world / "bundles" / "whole"
    assert main(["build", str(recipe(world, "whole.yaml")), "--output", str(output)]) == 0
    return output


def complaint(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def test_int8_is_accepted_on_labels_and_against_fp32(bundle: Path):
    manifest = load_bundle(bundle).manifest
    assert manifest.task["kind"] == "lidar_detection"
    assert "kitti kitti" in manifest.calibration.source
    assert len({frame.sha256 for frame in manifest.calibration.frames}) == 4
    for record in manifest.artefacts.values():
        assert record.gate is not None
        assert record.gate.passed
        assert record.int8_mac_share > 0.8
        # The detector finds every car, 4 in each of 6 clouds, and nothing else.
        assert record.gate.figures["fp32_ap50"] == pytest.approx(100)
        assert record.gate.figures["agreement_ap50"] == pytest.approx(100)
        precisions = {node.op_type: node.precision for node in record.nodes}
        reasons = {node.op_type: node.reason for node in record.nodes}
        assert precisions["MatMul"] != "int8"
        assert "coordinates" in reasons["MatMul"]
        assert sum(node.precision == "int8" for node in record.nodes) == 3


def test_coordinates_stay_out_of_int8_whatever_the_other_rules_allow(world: Path, tmp_path):
    rules = {"first": True, "prediction": True, "min_channels": 1}
    path = recipe(world, "all.yaml", precision=rules, emitters=["tensorrt"])
    assert main(["build", str(path), "--output", str(tmp_path / "b")]) == 0
    nodes = load_bundle(tmp_path / "b").manifest.artefacts["tensorrt"].nodes
    assert [n.op_type for n in nodes if n.precision != "int8"] == ["MatMul"]


def test_two_files_with_an_open_number_of_voxels_give_the_same(world: Path, bundle, tmp_path):
    task = json.loads(json.dumps(TASK))
    task["input"]["encoder"]["padding"] = "none"
    made = {}
    for name, optimize in (("padded", {"pad_voxels": True}), ("open", {})):
        path = recipe(world, f"{name}.yaml", model=TWO_FILES, task=task, optimize=optimize)
        assert main(["build", str(path), "--output", str(tmp_path / name)]) == 0
        made[name] = load_bundle(tmp_path / name)
    manifest = made["padded"].manifest
    assert manifest.source.name == "encoder.onnx + backbone.onnx"
    sizes = [(world / file).stat().st_size for file in TWO_FILES.values()]
    assert manifest.source.bytes == sum(sizes)
    paddings = {n: b.task().settings.input.encoder.padding for n, b in made.items()}
    assert paddings == {"padded": "repeat_last", "open": "none"}
    cloud = KittiFolder(world / "kitti", "camera").read(0)
    found = []
    for one in (load_bundle(bundle), *made.values()):
        with_pipeline = one.open_pipeline(emitter="cpu")
        found.append(with_pipeline.process(cloud).result)
        with_pipeline.close()
    assert len(found[0]) == 4
    for other in found[1:]:
        np.testing.assert_allclose(other.boxes, found[0].boxes, atol=0.02)
    shapes = [
        {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
        for model in (onnx.load(tmp_path / n / "tensorrt" / "model.onnx") for n in made)
    ]
    assert [shape["indices"] for shape in shapes] == [[1500], [0]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"encoder": "encoder.onnx"}}, "backbone"),
        ({"model": {**TWO_FILES, "backbone": "absent.onnx"}}, "absent.onnx"),
        (
            {
                "model": TWO_FILES,
                "task": {**TASK, "input": {**TASK["input"], "upper": [64, 16, 3]}},
            },
            "the grid wants",
        ),
        ({"calibration": {"source": {"type": "images", "path": "."}}}, "takes point clouds"),
        (
            {"calibration": {"source": BAG, "samples": 2}, "gate": None},
            "has x, y, z, reflectivity",
        ),
    ],
)
def test_what_does_not_fit_is_said(world: Path, tmp_path: Path, capsys, changes, words):
    path = recipe(world, "wrong.yaml", **changes)
    assert main(["build", str(path), "--output", str(tmp_path / "b")]) != 0
    assert words in complaint(capsys)


def test_evaluate_measures_by_kittis_protocol(world: Path, bundle: Path, tmp_path: Path, capsys):
    out = tmp_path / "figures.json"
    (tmp_path / "val.txt").write_text("\n".join(f"{i:06d}" for i in range(4, 10)))
    command = ["evaluate", "--bundle", bundle, "--data", world / "kitti", "--json", out]
    assert main([*map(str, command), "--split", str(tmp_path / "val.txt")]) == 0
    printed = capsys.readouterr().out
    assert "BEV AP R40" in printed
    assert "6 point clouds, 24 detections" in printed
    figures = json.loads(out.read_text())
    assert figures["data"]["view"] == "camera"
    assert figures["ap50"] == pytest.approx(1)
    # Independently: the same detections, measured without labels' files.
    source = KittiFolder(world / "kitti", "camera", tmp_path / "val.txt")
    pipeline = load_bundle(bundle).open_pipeline(emitter="cpu")
    results = [pipeline.process(source.read(i)).result for i in range(6)]
    names = pipeline.task.class_names
    labels = [map_labels_3d(source.labels(i), source.class_names, names) for i in range(6)]
    want = kitti_average_precision(results, labels, names)["easy"].per_class["car"]
    have = figures["kitti"]["easy"]["per_class"]["car"]
    assert have["truths"] == 24
    assert have["bev"]["r40"] == pytest.approx(want.bev.r40)
    assert have["3d"]["r40"] == pytest.approx(want.volume.r40)
    assert want.volume.r40 > 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "kitti", "--images", "kitti"], "--images goes with annotations"),
        (["--data", "task.yaml", "--view", "whole"], "--view goes with a folder in KITTI's"),
        (["--data", "task.yaml"], "'coco' has images, the task takes point clouds"),
    ],
)
def test_evaluate_refuses_what_is_no_labelled_cloud(world, bundle, capsys, arguments, words):
    named = [str(world / a) if not a.startswith("-") and a != "whole" else a for a in arguments]
    assert main(["evaluate", "--bundle", str(bundle), *named]) == 2
    assert words in complaint(capsys)


def test_replay_of_a_bag_of_clouds(world: Path, bundle: Path, tmp_path: Path, capsys):
    command = ["replay", world / "drive", "--bundle", bundle, "--intensity", "reflectivity"]
    command += ["--reference", world / "whole.onnx", "--min-matched", "0.99", "--worst", "2"]
    command += ["--output", tmp_path / "out", "--report", tmp_path / "page"]
    command += ["--json", tmp_path / "figures.json"]
    assert main(list(map(str, command))) == 0
    printed = capsys.readouterr().out
    assert "bag drive, topic /points: 3 frames, all usable" in printed
    assert "moved m" in printed
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["agreement"]["matched"] == 12
    assert 0 <= figures["agreement"]["pose"]["max_position"] < 0.1
    page = (tmp_path / "page" / "report.html").read_text()
    assert page.count("data:image/jpeg") == 4
    want = [result_of(world, index) for index in range(FRAMES)]
    for index, (topic, stamp, message) in enumerate(messages(tmp_path / "out")):
        assert topic == "/points/detections"
        assert stamp == (index + 1) * STEP_NS
        assert message.header.frame_id == "lidar"
        have = [
            (
                d.bbox.center.position.x,
                d.bbox.center.position.y,
                d.bbox.size.x,
                d.results[0].pose.pose,
            )
            for d in message.detections
        ]
        assert len(have) == len(want[index]) == 4
        for x, y, length, pose in have:
            near = np.hypot(want[index].boxes[:, 0] - x, want[index].boxes[:, 1] - y)
            assert near.min() < 0.1
            assert length == pytest.approx(3.9, abs=0.1)
            assert (pose.position.x, pose.position.y) == (x, y)
            assert pose.orientation.z**2 + pose.orientation.w**2 == pytest.approx(1)


def test_a_replay_says_which_field_is_missing(world: Path, bundle: Path, capsys):
    assert main(["replay", str(world / "drive"), "--bundle", str(bundle)]) == 1
    assert "lacks the fields intensity; it has x, y, z, reflectivity" in complaint(capsys)


def test_a_replay_without_intensity_tells_the_model_zeros(world: Path, bundle: Path, capsys):
    arguments = ["replay", str(world / "drive"), "--bundle", str(bundle), "--intensity", "none"]
    assert main(arguments) == 0
    assert "3 frames, all usable" in capsys.readouterr().out


def result_of(world: Path, index: int):
    """Return what the FP32 model finds in a cloud of the bag."""
    from av_compress.data.points import PointOptions

    source = BagClouds(world / "drive", None, PointOptions(intensity=("reflectivity",)))
    pipeline = Pipeline(make_task(TASK), OnnxRuntimeEngine(world / "whole.onnx"))
    result = pipeline.process(source.read(index)).result
    source.close()
    return result


def messages(path: Path):
    """Yield topic, time and message of the detections in a bag."""
    store = make_typestore()
    with rosbags("rosbag2").Reader(path) as reader:
        for connection, time_ns, data in reader.messages():
            if connection.msgtype.endswith("Detection3DArray"):
                yield connection.topic, time_ns, store.deserialize_cdr(data, connection.msgtype)
