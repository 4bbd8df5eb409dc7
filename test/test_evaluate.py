# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation: hand-worked average precision, known detectors, and every way to call it wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from test_bundle import TASK, constant_detector, write_bundle

from av_compress.cli.main import main
from av_compress.fileio import sha256_bytes, sha256_file

# A detector that sees one car (score 0.75) in every image, at 2,4 .. 10,12 of 16 x 16 pixels.
CAR = [2.0, 4.0, 8.0, 8.0]
# Ranked by image, a hit, two false alarms; one of two cars is found. Precision is 1 up to a recall
# of 0.5, which are 51 of the protocol's 101 places.
HALF = 51 / 101


def write_data(folder: Path, categories=("bus", "car"), boxes=((0, CAR), (1, [0, 0, 4, 4]))):
    """Write three images, their labels being `boxes` (image, x y w h) of the last category."""
    (folder / "images").mkdir(parents=True)
    for index in range(3):
        pixels = np.full((16, 16, 3), 40 * index, np.uint8)
        cv2.imwrite(str(folder / "images" / f"{index}.png"), pixels)
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 16, "height": 16} for i in range(3)
        ],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(categories)],
        "annotations": [
            {
                "id": index + 1,
                "image_id": image,
                "category_id": len(categories),
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for index, (image, box) in enumerate(boxes)
        ],
    }
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def model(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "constant.onnx").write_bytes(constant_detector())
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(TASK))
    return ("--model", str(tmp_path / "constant.onnx"), "--task", str(tmp_path / "task.yaml"))


def evaluate(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


def complaint(capsys) -> str:
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "evaluate:" in line]
    assert len(lines) == 1, printed.err
    assert "Traceback" not in printed.err
    return lines[0]


def test_a_bundle_is_measured_by_the_coco_protocol(tmp_path, data, capsys):
    bundle = write_bundle(tmp_path / "bundle")
    out = tmp_path / "out" / "figures.json"
    assert evaluate("--bundle", bundle, "--data", data, "--json", out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "objects", "AP50", "AP"]
    assert lines[2].split() == ["car", "2", "50.50", "50.50"]
    assert lines[4].split() == ["all", "classes", "2", "50.50", "50.50"]
    assert lines[5] == "3 images, 3 detections"
    figures = json.loads(out.read_text())
    assert figures["ap"] == figures["ap50"] == figures["ap75"] == pytest.approx(HALF)
    assert figures["per_class"] == {
        "car": {"ap": figures["ap"], "ap50": figures["ap50"], "truths": 2}
    }
    assert figures["bundle"] == {
        "name": "tiny",
        "sha256": sha256_file(bundle / "manifest.json"),
        "backend": "onnxruntime",
        "emitter": "cpu",
        "model_sha256": sha256_bytes(constant_detector()),
    }
    assert figures["data"]["sha256"] == sha256_file(data)
    assert figures["data"]["frames"] == 3
    assert figures["engine"].startswith("ONNX Runtime")
    assert figures["versions"].keys() >= {"av_compress", "onnxruntime", "opencv", "numpy"}
    assert str(tmp_path) not in out.read_text()


def test_a_model_is_measured_with_a_task_of_its_own(tmp_path, data, model):
    out = tmp_path / "figures.json"
    assert evaluate(*model, "--data", data, "--images", data.parent, "--json", out) == 0
    figures = json.loads(out.read_text())
    assert figures["ap50"] == pytest.approx(HALF)
    assert figures["model"]["sha256"] == sha256_bytes(constant_detector())
    assert figures["model"]["task"]["class_names"] == ["car", "person"]


def test_the_figures_name_the_very_pixels(tmp_path, data, model):
    digests = []
    for value in (80, 80, 81):
        image = data.parent / "images" / "2.png"
        cv2.imwrite(str(image), np.full((16, 16, 3), value, np.uint8))
        assert evaluate(*model, "--data", data, "--json", tmp_path / "f.json") == 0
        digests.append(json.loads((tmp_path / "f.json").read_text())["data"]["frames_sha256"])
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--model", "m.onnx"), "--model needs --task"),
        (("--model", "m.onnx", "--task", "t", "--emitter", "cpu"), "--emitter goes with --bundle"),
        (("--bundle", "b", "--task", "t"), "--task goes with --model"),
        (("--model", "m.onnx", "--task", "absent.yaml"), "absent.yaml cannot be read"),
    ],
)
def test_arguments_that_do_not_go_together(data, arguments, reason, capsys):
    assert evaluate(*arguments, "--data", data) == 2
    assert reason in complaint(capsys)


@pytest.mark.parametrize("arguments", [("--data", "d.json"), ("--model", "m", "--bundle", "b")])
def test_arguments_that_are_missing_or_too_many(arguments):
    with pytest.raises(SystemExit) as caught:
        evaluate(*arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("{", "is not YAML"),
        ("just words", "task.kind: 'just words' is not allowed; allowed: camera_detection"),
        (yaml.safe_dump({**TASK, "score_threshold": 2}), "score_threshold"),
    ],
)
def test_a_task_that_is_none_is_named_with_its_file(tmp_path, data, model, task, reason, capsys):
    (tmp_path / "task.yaml").write_text(task)
    assert evaluate(*model, "--data", data) == 2
    message = complaint(capsys)
    assert reason in message
    assert "task.yaml" in message


def test_a_model_that_does_not_fit_its_task(tmp_path, data, model, capsys):
    task = {**TASK, "head": {**TASK["head"], "outputs": {"boxes": "boxes", "scores": "absent"}}}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    assert evaluate(*model, "--data", data) == 1
    assert "absent" in complaint(capsys)


def test_a_model_that_is_absent_or_no_model(tmp_path, data, model, capsys):
    (tmp_path / "constant.onnx").write_text("no model")
    assert evaluate(*model, "--data", data) == 1
    assert "constant.onnx" in complaint(capsys)
    (tmp_path / "constant.onnx").unlink()
    assert evaluate(*model, "--data", data) == 1
    assert "constant.onnx" in complaint(capsys)


def test_a_bundle_that_was_tampered_with(tmp_path, data, capsys):
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "cpu/model.onnx").write_bytes(constant_detector() + b"\0")
    assert evaluate("--bundle", bundle, "--data", data) == 1
    assert "[artefact_hash]" in complaint(capsys)


def test_an_emitter_that_the_bundle_lacks(tmp_path, data, capsys):
    bundle = write_bundle(tmp_path / "bundle")
    assert evaluate("--bundle", bundle, "--data", data, "--emitter", "tensorrt") == 1
    assert "[no_artefact]" in complaint(capsys)


def test_labels_of_other_classes_are_refused_before_any_image_is_run(tmp_path, model, capsys):
    data = write_data(tmp_path / "boats", categories=("bus", "boat"))
    (data.parent / "images" / "2.png").write_bytes(b"never read")
    assert evaluate(*model, "--data", data) == 1
    message = complaint(capsys)
    assert "the labels have bus, boat, the task has car, person" in message


def test_labels_without_a_single_box_are_refused(tmp_path, model, capsys):
    data = write_data(tmp_path / "empty", boxes=())
    assert evaluate(*model, "--data", data) == 1
    assert "names a class of the task" in complaint(capsys)


def test_a_damaged_image_is_named(data, model, capsys):
    (data.parent / "images" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert evaluate(*model, "--data", data) == 1
    assert "1.png" in complaint(capsys)


def test_annotations_that_are_absent_or_broken(tmp_path, data, model, capsys):
    assert evaluate(*model, "--data", tmp_path / "absent.json") == 1
    assert "absent.json" in complaint(capsys)
    data.write_text("{")
    assert evaluate(*model, "--data", data) == 1
    assert "labels.json" in complaint(capsys)


def test_figures_that_cannot_be_written(tmp_path, data, model, capsys):
    (tmp_path / "file").write_text("")
    assert evaluate(*model, "--data", data, "--json", tmp_path / "file" / "figures.json") == 1
    assert "cannot write" in complaint(capsys)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "ap50", "ap"),
    [("nanodet_m_320", 0.5335, 0.2900), ("light_person_detector", 0.5245, 0.2922)],
)
def test_real_detectors_reach_their_reference(shared_data, tmp_path, name, ap50, ap):
    camera = shared_data / "camera"
    task = Path(__file__).parent / "data" / "tasks" / f"{name}.yaml"
    out = tmp_path / "figures.json"
    data = camera / "coco" / "instances_val2017.json"
    arguments = ("--model", camera / f"{name}.onnx", "--task", task, "--data", data)
    assert evaluate(*arguments, "--json", out) == 0
    figures = json.loads(out.read_text())
    assert figures["ap50"] == pytest.approx(ap50, abs=0.002)
    assert figures["ap"] == pytest.approx(ap, abs=0.002)
