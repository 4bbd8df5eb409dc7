# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Whole builds of the demo detector on rendered streets, through the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from helpers_models import residual_network

from av_compress.cli.main import main
from av_compress.compress.observe.calibrate import Calibrator
from av_compress.data.demo.drive import Drive, write_bag, write_dataset
from av_compress.engines.bundle import load_bundle

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Return a folder with the demo detector, labelled images and a bag."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("detector.onnx", "detector.task.yaml"):
        source = resources.files("av_compress.data.demo") / name
        (folder / name).write_bytes(source.read_bytes())
    write_dataset([Drive(920, 4.0, 2.0)], folder / "calibration")
    write_dataset([Drive(940, 4.0, 2.0)], folder / "gate")
    write_bag(Drive(921, 2.4, 5.0), folder / "drive")
    return folder


def recipe(world: Path, name: str = "recipe.yaml", **changes) -> Path:
    content = {
        "model": "detector.onnx",
        "task": "detector.task.yaml",
        "calibration": {"source": coco("calibration"), "samples": 6, "sampling": "stride"},
        "gate": {"source": coco("gate"), "samples": 6, "metric": "agreement_ap50", "max_loss": 30},
    }
    for key, value in changes.items():
        merge = isinstance(value, dict) and isinstance(content.get(key), dict)
        content[key] = {**content[key], **value} if merge else value
    path = world / name
    path.write_text(yaml.safe_dump(content))
    return path


def coco(name: str) -> dict[str, str]:
    return {"type": "coco", "path": name, "annotations": f"{name}/annotations.json"}


def build(recipe_path: Path, output: Path, capsys) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["build", str(recipe_path), "--output", str(output)])
    return code, capsys.readouterr().err


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def bundle(world: Path) -> Path:
    output = world / "bundles" / "demo"
    assert main(["build", str(recipe(world)), "--output", str(output)]) == 0
    return output


def test_a_bundle_is_whole(bundle: Path):
    parts = ["cpu", "manifest.json", "measurements.json", "report.html", "tensorrt"]
    assert entries(bundle) == parts
    loaded = load_bundle(bundle)
    manifest = loaded.manifest
    assert set(manifest.artefacts) == {"cpu", "tensorrt"}
    assert len(manifest.calibration.frames) == 6
    for record in manifest.artefacts.values():
        assert record.gate is not None
        assert record.gate.passed
        assert 0.5 < record.int8_mac_share < 1
        assert {"fp32_ap50", "ap50", "agreement_ap"} <= set(record.gate.figures)
    source = (bundle.parent.parent / "detector.onnx").stat().st_size
    assert manifest.source.bytes == source
    assert manifest.artefacts["cpu"].bytes < source / 2


def test_calibration_and_gate_share_no_frame(world: Path, tmp_path: Path):
    same = recipe(world, "same.yaml", gate={"source": coco("calibration"), "samples": 2})
    assert main(["build", str(same), "--output", str(tmp_path / "bundle")]) == 0
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert len({frame.sha256 for frame in manifest.calibration.frames}) == 6


def test_the_same_inputs_give_the_same_bytes(world: Path, bundle: Path, tmp_path: Path):
    again = tmp_path / "again"
    command = [sys.executable, "-m", "av_compress", "build", str(recipe(world)), "--no-cache"]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    command += ["--output", str(again)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    for name in ("manifest.json", "cpu/model.onnx", "tensorrt/model.onnx"):
        assert (again / name).read_bytes() == (bundle / name).read_bytes(), name


def test_calibration_sees_the_bytes_that_the_node_feeds(world: Path, bundle: Path, monkeypatch):
    """One preprocess: what was observed is what the served pipeline hands to its engine."""
    seen: list[bytes] = []
    observe = Calibrator.observe

    def spy(self, tensors) -> None:
        seen.append(b"".join(np.ascontiguousarray(t).tobytes() for t in tensors.values()))
        observe(self, tensors)

    monkeypatch.setattr(Calibrator, "observe", spy)
    output = str(world / "bundles" / "spied")
    assert main(["build", str(recipe(world)), "--no-cache", "--output", output]) == 0
    assert len(seen) == 6
    loaded = load_bundle(bundle)
    task = loaded.task()
    for digest, observed in zip(loaded.manifest.calibration.frames, seen):
        pixels = cv2.imread(str(world / "calibration" / Path(digest.key).name))
        assert pixels is not None
        # As the node receives it: a message, read without copies.
        from av_compress.data.images import decode_raw

        height, width = pixels.shape[:2]
        view, color = decode_raw("bgr8", height, width, width * 3, pixels.tobytes())
        from av_compress.tasks.base import ImageFrame

        tensors = task.preprocess(ImageFrame(view, color)).tensors
        assert b"".join(t.tobytes() for t in tensors.values()) == observed


def test_samples_come_straight_from_a_bag(world: Path, tmp_path: Path):
    bag = {"type": "bag", "path": "drive", "topic": "/camera/image_raw"}
    path = recipe(
        world,
        "bag.yaml",
        calibration={"source": bag, "samples": 4, "sampling": "coverage"},
        gate={"source": bag, "samples": 4},
        emitters=["cpu"],
    )
    assert main(["build", str(path), "--output", str(tmp_path / "bundle")]) == 0
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert manifest.calibration.source == "bag drive, topic /camera/image_raw"
    assert [frame.key.split("#")[0] for frame in manifest.calibration.frames] == [
        "/camera/image_raw"
    ] * 4


def with_depthwise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put a depthwise convolution that passes everything on before the second convolution."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    second = convolutions[1]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    channels = weights[second.input[1]].dims[1]
    kernel = np.zeros((channels, 1, 3, 3), np.float32)
    kernel[:, :, 1, 1] = 1.0
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "passing"))
    added = onnx.helper.make_node(
        "Conv",
        [second.input[0], "passing"],
        ["passed_on"],
        name="depthwise",
        group=channels,
        pads=[1, 1, 1, 1],
    )
    second.input[0] = "passed_on"
    position = next(i for i, node in enumerate(model.graph.node) if node.name == second.name)
    model.graph.node.insert(position, added)
    return model


MIGRATED = re.compile("scales migrated|channels centred")


def test_migrated_scales_stand_in_the_plan_of_the_form_that_gains(world: Path, tmp_path: Path):
    onnx.save(with_depthwise(onnx.load(world / "detector.onnx")), world / "depthwise.onnx")
    path = recipe(world, "migrate.yaml", model="depthwise.onnx", precision={"migrate": True})
    assert main(["build", str(path), "--output", str(tmp_path / "migrated")]) == 0
    artefacts = load_bundle(tmp_path / "migrated").manifest.artefacts
    notes = {
        form: {n.node: n.precision for n in record.nodes if MIGRATED.search(n.reason)}
        for form, record in artefacts.items()
    }
    assert notes["tensorrt"]
    assert set(notes["tensorrt"].values()) == {"int8"}
    assert not notes["cpu"]
    cpu = {node.node: node.precision for node in artefacts["cpu"].nodes}
    tensorrt = {node.node: node.precision for node in artefacts["tensorrt"].nodes}
    assert (tensorrt["depthwise"], cpu["depthwise"]) == ("int8", "fp32")
    assert "migrate scales (tensorrt)" in (tmp_path / "migrated/report.html").read_text()


def test_a_search_spares_what_the_limit_does_not_bear(world: Path, tmp_path: Path, capsys):
    rules = {"first": True, "prediction": True, "min_channels": 1}
    search = {"evaluations": 6, "frames": 2}
    gate = {"metric": "agreement_ap", "max_loss": 8, "samples": 6}
    path = recipe(
        world,
        "search.yaml",
        precision=rules,
        gate=gate,
        search=search,
        candidates=["mixed"],
        emitters=["tensorrt"],
    )
    code = main(["build", str(path), "--output", str(tmp_path / "searched")])
    report = tmp_path / ("searched/report.html" if code == 0 else "searched.refused.html")
    text = report.read_text()
    assert "spared: alone in INT8" in text
    assert "search plan (tensorrt)" in text
    assert "Traceback" not in capsys.readouterr().err


def test_inspect_prints_and_verifies(bundle: Path, tmp_path: Path, capsys):
    assert main(["inspect", str(bundle)]) == 0
    text = capsys.readouterr().out
    assert "every hash verified" in text
    assert "gate:      passed: agreement_ap50" in text
    assert main(["inspect", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "recipe"
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    with (copy / "cpu/model.onnx").open("ab") as stream:
        stream.write(b"x")
    assert main(["inspect", str(copy)]) == 1
    assert "[artefact_hash]" in capsys.readouterr().err


def test_evaluate_prints_and_writes_the_same_figures(bundle: Path, world: Path, tmp_path, capsys):
    data = ["--data", str(world / "gate/annotations.json")]
    assert (
        main(["evaluate", "--bundle", str(bundle), *data, "--json", str(tmp_path / "e.json")]) == 0
    )
    figures = json.loads((tmp_path / "e.json").read_text())
    assert f"{100 * figures['ap50']:6.2f}" in capsys.readouterr().out.splitlines()[-2]
    model = ["--model", str(world / "detector.onnx"), "--task", str(world / "detector.task.yaml")]
    assert main(["evaluate", *model, *data, "--json", str(tmp_path / "f.json")]) == 0
    assert json.loads((tmp_path / "f.json").read_text())["ap50"] > 0.5
    assert main(["evaluate", "--model", str(world / "detector.onnx"), *data]) == 2
    assert "--task" in capsys.readouterr().err


def test_a_gate_that_fails_writes_a_report_and_no_bundle(world: Path, tmp_path: Path, capsys):
    gate = {"max_loss": 0, "metric": "agreement_ap"}
    path = recipe(world, "strict.yaml", gate=gate, candidates=["int8"])
    code, message = build(path, tmp_path / "bundle", capsys)
    assert code == 1
    assert "refused: tensorrt: no candidate holds every limit; nearest is int8" in message
    assert "allowed 0.00" in message
    assert entries(tmp_path) == ["bundle.refused.html"]
    # What is accepted there later contradicts it.
    path = recipe(world, "strict.yaml", candidates=["int8"])
    assert build(path, tmp_path / "bundle", capsys)[0] == 0
    assert entries(tmp_path) == ["bundle"]


def test_interrupting_leaves_the_old_bundle(world: Path, bundle: Path, tmp_path: Path):
    output = tmp_path / "bundle"
    shutil.copytree(bundle, output)
    before = (output / "manifest.json").read_bytes()
    # Shells let what they start in the background ignore the signal.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "av_compress", "build"]
    process = subprocess.Popen(
        [*command, str(recipe(world)), "--output", str(output)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    # Once its folder is there, the build is at work.
    end = time.monotonic() + 60
    while len(entries(tmp_path)) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "interrupted" in message
    assert entries(tmp_path) == ["bundle"]
    assert (output / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"model": "absent.onnx"}, 1, "there is no such model"),
        ({"calibration": {"source": {"type": "images", "path": "nowhere"}}}, 1, "nowhere"),
        ({"calibration": {"samples": 400}}, 1, "400 frames"),
        ({"calibration": {"threshold": "guess"}}, 2, "calibration.threshold"),
        ({"task": {"kind": "camera_detection"}}, 2, "class_names"),
        ({"precision": {"exclude": ["head.*"]}}, 2, "matches no weighted node"),
        (
            {"gate": {"source": {"type": "images", "path": "gate"}, "metric": "ap50"}},
            2,
            "needs labels",
        ),
        ({"calibration": {"source": {"type": "bag", "path": "drive", "topic": "/x"}}}, 1, "/x"),
    ],
)
def test_foreseeable_faults_are_one_line(world, tmp_path, capsys, changes, code, words):
    got, message = build(recipe(world, "wrong.yaml", **changes), tmp_path / "bundle", capsys)
    assert (got, words in message) == (code, True), message
    assert len(message.strip().splitlines()) == 1
    assert entries(tmp_path) == []


def test_a_search_without_a_gate_is_refused(world: Path, tmp_path: Path, capsys):
    path = recipe(world, "aimless.yaml", gate=None, search={})
    assert main(["build", str(path), "--output", str(tmp_path / "out")]) == 2
    assert "search: needs a gate" in capsys.readouterr().err


def test_a_model_that_is_no_detector(world: Path, tmp_path: Path, capsys):
    onnx.save(residual_network(), world / "other.onnx")
    code, message = build(recipe(world, "o.yaml", model="other.onnx"), tmp_path / "b", capsys)
    assert code == 1
    assert "image" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(world: Path, tmp_path: Path, capsys, bad):
    model = onnx.load(world / "detector.onnx")
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    value = onnx.numpy_helper.to_array(weight).copy()
    value.flat[3] = bad
    weight.CopyFrom(onnx.numpy_helper.from_array(value, weight.name))
    onnx.save(model, world / "broken.onnx")
    code, message = build(recipe(world, "n.yaml", model="broken.onnx"), tmp_path / "b", capsys)
    assert code == 1
    assert f"NaN or infinity in {weight.name}" in message


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk(world: Path, tmp_path: Path, capsys):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        code, message = build(recipe(world), small / "bundle", capsys)
        assert code == 1
        assert "No space left on device" in message
        assert entries(small) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
