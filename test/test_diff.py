# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Diff: figures worked by hand, two models on the same frames, ways to call it wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from helpers_models import EVERYTHING, Network, emitted, prepared, residual_network
from helpers_qdq import convolution, product
from onnx import numpy_helper
from test_bundle import TASK, constant_detector, write_bundle
from test_evaluate import HALF, write_data

from av_compress.cli.main import main
from av_compress.compress.plan.precision import make_plan
from av_compress.compress.states import weighted_nodes
from av_compress.data.folder import ImageFolder
from av_compress.validate.diff import diff, model_side
from av_compress.validate.diff_text import diff_text


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """Return a model's file, and that of its tensorrt form with one node spared."""
    folder = tmp_path_factory.mktemp("pair")
    model = prepared(residual_network(), folder)
    onnx.save(model, folder / "a.onnx")
    plan = make_plan(model, EVERYTHING)
    spared = plan.nodes[2].node
    form = emitted(model, plan.spared({spared: "it hurts"}), "tensorrt")
    onnx.save(form, folder / "b.onnx")
    return folder / "a.onnx", folder / "b.onnx"


def test_figures_are_those_of_the_plan(pair):
    a, b = map(model_side, pair)
    plan = make_plan(onnx.load(pair[0]), EVERYTHING)
    assert {name: node.macs for name, node in a.nodes.items()} == {
        node.node: node.macs for node in plan.nodes
    }
    assert (a.macs, b.macs) == (sum(n.macs for n in plan.nodes),) * 2
    assert (a.bytes, b.bytes) == tuple(path.stat().st_size for path in pair)
    assert (a.int8_share, b.int8_share) == (
        0.0,
        pytest.approx(1 - plan.nodes[2].macs / a.macs),
    )
    found = diff(a, b)
    assert [change.node for change in found.changes] == [node.node for node in plan.nodes]
    precisions = [(change.a.precision, change.b.precision) for change in found.changes]
    assert precisions.pop(2) == ("fp32", "fp16")
    assert set(precisions) == {("fp32", "int8")}
    assert (found.only_a, found.only_b) == ((), ())


def test_macs_by_hand():
    net = Network(0, channels=4, side=10)
    net.conv(net.conv("image", 8, 3, stride=2), 8, 3, group=8)
    nodes = weighted_nodes(net.model()).values()
    assert [node.macs for node in nodes] == [8 * 5 * 5 * 4 * 9, 8 * 5 * 5 * 9]
    (node,) = weighted_nodes(product("Gemm", axis=0, transB=1).model()).values()
    assert (node.macs, node.precision) == (8 * 16 * 32, "int8")


def test_precision_is_what_stands_in_the_graph():
    def precision(draft) -> str:
        (node,) = weighted_nodes(draft.model()).values()
        return node.precision

    assert precision(convolution()) == "int8"
    assert precision(convolution().const("x_zero", np.uint8(0))) == "uint8"
    assert precision(convolution().drop("x_q", "x_d").rewire("conv", 0, "x")) == "fp32"
    half = convolution(np.float16).drop("w_q", "w_d").rewire("conv", 1, "w")
    assert precision(half) == "fp16"


def test_nodes_that_only_one_has(tmp_path: Path):
    for name, count in (("a", 2), ("b", 3)):
        net = Network(0, channels=4, side=8)
        for _ in range(count):
            net.conv(net.last, 4, 1)
        onnx.save(net.model(), tmp_path / f"{name}.onnx")
    found = diff(model_side(tmp_path / "a.onnx"), model_side(tmp_path / "b.onnx"))
    assert (found.changes, found.only_a, found.only_b) == ((), (), ("n_t2",))
    assert "only in B: 1 node (n_t2)" in diff_text(found)


def test_external_data_counts(tmp_path: Path):
    model = residual_network()
    onnx.save(model, tmp_path / "a.onnx")
    inside = model_side(tmp_path / "a.onnx").bytes
    onnx.save(model, tmp_path / "b.onnx", save_as_external_data=True, size_threshold=0)
    outside = model_side(tmp_path / "b.onnx").bytes
    assert (tmp_path / "b.onnx").stat().st_size < outside
    assert abs(outside - inside) < 0.3 * inside


def run(*arguments: object) -> int:
    return main(["diff", *map(str, arguments)])


def test_the_table_of_two_models(pair, capsys):
    assert run(*pair) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("A: a.onnx, sha256 ")
    rows = {line.split("  ")[0]: line.split() for line in lines}
    assert rows["of them in INT8"][4:6] == ["0.0", "%"]
    assert rows["nodes of another precision"][-3:] == ["8", "of", "8"]
    assert rows["multiply-accumulates"][-2:] == ["1.00", "x"]
    assert any(line.split()[:4] == ["n_t2", "Conv", "fp32", "int8"] for line in lines)


def test_two_models_as_json(pair, capsys):
    assert run(*pair, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["measured"] is None
    assert content["a"]["flops"] == 2 * content["a"]["macs"]
    assert content["b"]["nodes"]["n_t2"]["precision"] == "int8"
    assert content["changes"][2]["b"] == "fp16"


def shifted_detector(pixels: float) -> bytes:
    """Serialise `constant_detector`, its box moved to the right, its score lowered by 0.125."""
    model = onnx.load_from_string(constant_detector())
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor).copy()
        if tensor.name == "b":
            value[..., [0, 2]] += pixels
        else:
            value[..., 0] -= 0.125
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model.SerializeToString()


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Return a folder with labelled images, two models, their task, and a bundle."""
    write_data(tmp_path / "data")
    (tmp_path / "a.onnx").write_bytes(constant_detector())
    (tmp_path / "b.onnx").write_bytes(shifted_detector(1.0))
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(TASK))
    write_bundle(tmp_path / "bundle")
    return tmp_path


def measured(world: Path, capsys, *arguments: object) -> dict:
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)["measured"]


def test_two_models_on_labelled_frames(world, capsys):
    labels = world / "data" / "labels.json"
    found = measured(
        world,
        capsys,
        *(world / "a.onnx", world / "b.onnx", "--task", world / "task.yaml"),
        *("--data", labels, "--images", world / "data" / "images"),
    )
    # The model's box is 4 x 4 pixels; moved by one it overlaps by 12 of 20, and of its truth too.
    agreement = found["agreement"]
    assert (agreement["matched"], agreement["missed"], agreement["extra"]) == (3, 0, 0)
    assert agreement["mean_iou"] == pytest.approx(12 / 20)
    assert agreement["mean_score_shift"] == pytest.approx(-0.125)
    assert agreement["rate"] == 1.0
    assert found["a"]["accuracy"]["ap50"] == pytest.approx(100 * HALF)
    # At IoU 0.50, 0.55 and 0.60 of ten thresholds.
    assert found["b"]["accuracy"]["ap"] == pytest.approx(100 * HALF * 3 / 10)
    for side in ("a", "b"):
        assert found[side]["latency_ms"].keys() == {
            *("preprocess", "h2d", "execute", "d2h", "postprocess", "total")
        }
        assert min(found[side]["latency_ms"].values()) >= 0
    assert (found["frames"], found["bad"]) == (3, 0)


def test_boxes_too_far_apart_have_no_partner(world, capsys):
    (world / "b.onnx").write_bytes(shifted_detector(2.0))
    images = world / "data" / "images"
    arguments = (world / "bundle", world / "b.onnx", "--data", images, "--frames", 2)
    agreement = measured(world, capsys, *arguments)["agreement"]
    assert (agreement["matched"], agreement["missed"], agreement["extra"]) == (0, 2, 2)
    assert agreement["mean_iou"] is None
    assert run(*arguments) == 0
    output = capsys.readouterr().out
    assert "measured in turns on 2 frames of images in images" in output
    assert "TensorRT is simulated" not in output


def edit_manifest(bundle: Path, change) -> None:
    path = bundle / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_latency_of_a_simulated_form_is_said_to_be_none(world, capsys):
    def rename(content) -> None:
        content["artefacts"]["tensorrt"] = content["artefacts"].pop("cpu")

    edit_manifest(world / "bundle", rename)
    images = world / "data" / "images"
    assert run(world / "a.onnx", world / "bundle", "--data", images, "--frames", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "TensorRT is simulated" in lines[-1]
    assert "TensorRT is simulated" not in lines[-2]


def test_a_bundle_shows_what_its_gate_said(world, capsys):
    assert run(world / "bundle", world / "bundle") == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("ap50"))
    assert row.split() == ["ap50", "(gate)", "49.50", "49.50", "0.00"]


def test_gates_on_other_frames_are_not_subtracted(world, capsys):
    def change(content) -> None:
        for record in content["artefacts"].values():
            record["gate"]["source"] = "another drive"

    other = write_bundle(world / "other")
    edit_manifest(other, change)
    assert run(world / "bundle", other) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("ap50"))
    assert row.split() == ["ap50", "(gate)", "49.50", "49.50", "-"]


def test_damaged_frames_are_counted(world, capsys):
    (world / "data" / "images" / "1.png").write_bytes(b"no picture")
    found = measured(
        world, capsys, world / "bundle", world / "a.onnx", "--data", world / "data" / "images"
    )
    assert (found["frames"], found["bad"]) == (2, 1)
    for path in (world / "data" / "images").iterdir():
        path.write_bytes(b"no picture")
    images = world / "data" / "images"
    assert len(ImageFolder(images)) == 3
    assert run(world / "bundle", world / "a.onnx", "--data", images) == 1
    assert "no frame of images in images can be used" in capsys.readouterr().err


def test_models_of_other_classes(world, capsys):
    other = write_bundle(world / "other")
    edit_manifest(other, lambda content: content["task"].update(class_names=["truck", "tram"]))
    assert run(world / "bundle", other, "--data", world / "data" / "images") == 2
    assert "2 (car, person) and 2 (truck, tram)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("a.onnx", "absent"), 2, "neither a bundle's folder nor an ONNX file"),
        (("a.onnx", "data"), 1, "is not a bundle"),
        (("a.onnx", "task.yaml"), 1, "is not an ONNX model"),
        (("a.onnx", "b.onnx", "--emitter-b", "cpu"), 2, "--emitter-b goes with a bundle"),
        (("a.onnx", "bundle", "--emitter-b", "tensorrt"), 1, "no artefact for emitter 'tensorrt'"),
        (("a.onnx", "b.onnx", "--data", "data/images"), 2, "needs --task TASK.yaml"),
        (
            ("bundle", "b.onnx", "--data", "data/images", "--task", "task.yaml"),
            2,
            "a bundle brings its own task",
        ),
        (("bundle", "b.onnx", "--data", "nowhere"), 1, "nowhere"),
        (("bundle", "b.onnx", "--data", "data/images", "--topic", "/x"), 2, "goes with a bag"),
        (
            ("bundle", "b.onnx", "--data", "data/images", "--images", "data"),
            2,
            "--images goes with annotations",
        ),
    ],
)
def test_what_cannot_be_compared(world, monkeypatch, capsys, arguments, code, reason):
    monkeypatch.chdir(world)
    assert run(*arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


@pytest.mark.parametrize("arguments", [("--frames", "0"), ("--frames", "x"), ("--threads", "-1")])
def test_numbers_that_are_none(world, capsys, arguments):
    with pytest.raises(SystemExit) as left:
        run(world / "a.onnx", world / "b.onnx", *arguments)
    assert left.value.code == 2
    assert "whole number" in capsys.readouterr().err
