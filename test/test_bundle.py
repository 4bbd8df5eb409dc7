# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles: what is verified before anything is loaded, and the name of every refusal."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from av_compress.engines.bundle import load_bundle
from av_compress.engines.manifest import (
    REFUSALS,
    ArtefactRecord,
    CalibrationRecord,
    FrameDigest,
    GateRecord,
    Manifest,
    ModelRecord,
    NodeRecord,
)
from av_compress.errors import BundleError, UsageError
from av_compress.fileio import sha256_bytes
from av_compress.tasks.base import ImageFrame

TASK = {
    "kind": "camera_detection",
    "class_names": ["car", "person"],
    "input": {"name": "image", "width": 8, "height": 8},
    "resize": {"mode": "stretch"},
    "head": {
        "type": "decoded",
        "outputs": {"boxes": "boxes", "scores": "scores"},
        "box_format": "xyxy",
        "box_unit": "pixels",
        "nms_inside": True,
    },
    "score_threshold": 0.25,
    "nms": {"iou_threshold": 0.6, "class_aware": True, "max_detections": 10},
}


def constant_detector() -> bytes:
    """Serialise a model that reports one car at 1,2..5,6 whatever the image shows."""
    boxes = np.array([[[1, 2, 5, 6]]], np.float32)
    scores = np.array([[[0.75, 0.125]]], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
            helper.make_node("Sub", ["mean", "mean"], ["zero"]),
            helper.make_node("Add", ["zero", "b"], ["boxes"]),
            helper.make_node("Add", ["zero", "s"], ["scores"]),
        ],
        "constant",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 1, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, 2]),
        ],
        [numpy_helper.from_array(boxes, "b"), numpy_helper.from_array(scores, "s")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def gate(passed: bool) -> GateRecord:
    return GateRecord("ap50", 50.0, 49.5 if passed else 30.0, 1.0, passed, "images", 4, {})


def manifest(model: bytes, passed: bool = True) -> Manifest:
    digest = sha256_bytes(b"x")
    return Manifest(
        name="tiny",
        source=ModelRecord("tiny.onnx", digest, 10),
        recipe={"model": "tiny.onnx"},
        recipe_sha256=digest,
        task=TASK,
        calibration=CalibrationRecord(
            "images", "stride", "mse", digest, (FrameDigest("a.png", digest),)
        ),
        artefacts={
            "cpu": ArtefactRecord(
                "cpu/model.onnx",
                sha256_bytes(model),
                len(model),
                0.0,
                (NodeRecord("conv", "Conv", "fp32", "excluded by the recipe"),),
                gate(passed),
            )
        },
        versions={"onnx": "1"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def write_bundle(root: Path, passed: bool = True) -> Path:
    model = constant_detector()
    (root / "cpu").mkdir(parents=True)
    (root / "cpu/model.onnx").write_bytes(model)
    (root / "manifest.json").write_text(manifest(model, passed).to_json())
    return root


def edit(folder: Path, change) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert caught.value.reason in REFUSALS
    return caught.value.reason


def test_manifest_survives_the_file():
    before = manifest(b"model")
    assert Manifest.from_json(before.to_json()) == before
    assert Manifest.from_json(before.to_json()).to_json() == before.to_json()


def test_a_bundle_serves_frames_through_its_own_task(folder: Path):
    bundle = load_bundle(folder)
    pipeline = bundle.open_pipeline()
    processed = pipeline.process(ImageFrame(np.zeros((16, 16, 3), np.uint8)))
    # The model speaks in its own 8 x 8 pixels; the image is twice that.
    np.testing.assert_allclose(processed.result.boxes, [[2, 4, 10, 12]], atol=1e-5)
    np.testing.assert_allclose(processed.result.scores, [0.75])
    assert processed.result.labels.tolist() == [0]
    assert set(processed.spans) == {"preprocess", "h2d", "execute", "d2h", "postprocess"}
    pipeline.close()


def test_a_folder_that_is_no_bundle(tmp_path: Path):
    assert refusal(tmp_path) == "not_a_bundle"
    assert refusal(tmp_path / "absent") == "not_a_bundle"


def test_an_unreadable_manifest(folder: Path):
    (folder / "manifest.json").write_text('{"schema_version": 1,')
    assert refusal(folder) == "manifest_unreadable"
    (folder / "manifest.json").write_bytes(b"\xff\xfe\x00")
    assert refusal(folder) == "manifest_unreadable"


def test_another_schema_version(folder: Path):
    edit(folder, lambda value: value.update(schema_version=1))
    assert refusal(folder) == "schema_version"
    (folder / "manifest.json").write_text("[]")
    assert refusal(folder) == "schema_version"


def test_a_manifest_that_breaks_its_schema(folder: Path):
    edit(folder, lambda value: value["artefacts"]["cpu"].pop("sha256"))
    assert refusal(folder) == "manifest_invalid"


def test_a_changed_artefact(folder: Path):
    path = folder / "cpu/model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert refusal(folder) == "artefact_hash"


def test_an_artefact_changed_after_the_check(folder: Path):
    bundle = load_bundle(folder)
    (folder / "cpu/model.onnx").write_bytes(b"swapped")
    with pytest.raises(BundleError) as caught:
        bundle.open_engine()
    assert caught.value.reason == "artefact_hash"


def test_a_missing_artefact(folder: Path):
    (folder / "cpu/model.onnx").unlink()
    assert refusal(folder) == "artefact_missing"


@pytest.mark.parametrize("path", ["../outside.onnx", "/etc/hostname"])
def test_an_artefact_outside_the_folder(folder: Path, path: str):
    shutil.copy(folder / "cpu/model.onnx", folder.parent / "outside.onnx")
    edit(folder, lambda value: value["artefacts"]["cpu"].update(path=path))
    assert refusal(folder) == "artefact_path"


def test_a_link_that_leaves_the_folder(folder: Path):
    shutil.move(folder / "cpu/model.onnx", folder.parent / "outside.onnx")
    (folder / "cpu/model.onnx").symlink_to(folder.parent / "outside.onnx")
    assert refusal(folder) == "artefact_path"


def test_an_emitter_that_was_not_built(folder: Path):
    with pytest.raises(BundleError, match="only: cpu") as caught:
        load_bundle(folder).open_engine(emitter="tensorrt")
    assert caught.value.reason == "no_artefact"


def test_a_task_of_another_version(folder: Path):
    edit(folder, lambda value: value["task"].update(kind="time_travel"))
    with pytest.raises(BundleError, match="time_travel") as caught:
        load_bundle(folder).task()
    assert caught.value.reason == "task_invalid"


def test_a_refused_artefact_is_not_served(tmp_path: Path):
    with pytest.raises(BundleError) as caught:
        load_bundle(write_bundle(tmp_path / "bundle", passed=False)).open_engine()
    assert caught.value.reason == "not_accepted"


def test_an_unknown_backend(folder: Path):
    with pytest.raises(UsageError, match="allowed: onnxruntime, tensorrt, tensorrt_rtx"):
        load_bundle(folder).open_engine(backend="tensorflow")
