# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Preparation: every pass, real models of every opset, and models that must be refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import Network, residual_network, run, samples
from onnx import TensorProto, helper, numpy_helper

from av_compress.compress.optimize.passes import OPSET, apply, opset_of
from av_compress.compress.optimize.prepare import compare, prepare_model
from av_compress.compress.optimize.standard import NameNodes
from av_compress.errors import ModelError


def save(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
def test_old_models_are_raised_and_compute_the_same(tmp_path: Path, opset: int):
    net = Network(1, channels=3, side=8)
    features = net.relu(net.conv("image", 8))
    pooled = net.add("MaxPool", [features], 8, 4, kernel_shape=[2, 2], strides=[2, 2])
    if opset < 11:
        scales = net.constant(np.array([1, 1, 2, 2], np.float32))
        large = net.add("Upsample", [pooled, scales], 8, 8, mode="nearest")
    else:
        scales = net.constant(np.array([1, 1, 2, 2], np.float32))
        attributes = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        large = net.add(
            "Resize", [pooled, "" if opset >= 13 else scales, scales], 8, 8, **attributes
        )
    net.conv(net.add("Add", [large, features], 8, 8), 4, 1)
    model = net.model(opset)
    prepared = prepare_model(save(model, tmp_path))
    assert opset_of(prepared.model) == OPSET
    for sample in samples(model):
        np.testing.assert_allclose(
            run(prepared.model, sample)[0], run(model, sample)[0], rtol=1e-4, atol=1e-5
        )


def test_reports_tell_what_changed(tmp_path: Path):
    net = Network(0, channels=3, side=8)
    conv = net.conv("image", 4)
    ones = [net.constant(np.ones(4, np.float32)) for _ in range(2)]
    zeros = [net.constant(np.zeros(4, np.float32)) for _ in range(2)]
    net.add("BatchNormalization", [conv, ones[0], zeros[0], zeros[1], ones[1]], 4, 8)
    model = net.model(13)
    reports = {r.name: r for r in prepare_model(save(model, tmp_path)).reports}
    assert reports["change opset"].detail == "from 13 to 19"
    assert reports["simplify"].detail == "removed 1 BatchNormalization"
    assert (reports["simplify"].nodes_before, reports["simplify"].nodes_after) == (2, 1)


def test_nameless_and_double_nodes_get_names_of_their_own():
    model = residual_network()
    model.graph.node[0].name = ""
    model.graph.node[2].name = model.graph.node[1].name
    named, report = apply(NameNodes(), model)
    names = [node.name for node in named.graph.node]
    assert len(set(names)) == len(names)
    assert all(names)
    assert names[1] == model.graph.node[1].name
    assert report.detail == "named 2 nodes"


def test_constants_among_the_inputs_are_separated(tmp_path: Path):
    model = residual_network()
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    prepared = prepare_model(save(model, tmp_path))
    assert [value.name for value in prepared.model.graph.input] == ["image"]


def test_equal_bytes_from_another_process(tmp_path: Path):
    path = save(residual_network(), tmp_path)
    script = (
        "import sys; from pathlib import Path; "
        "from av_compress.compress.optimize.prepare import *; "
        "sys.stdout.buffer.write(prepare_model(Path(sys.argv[1])).model.SerializeToString())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script, str(path)],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent.parent)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0] == prepare_model(path).model.SerializeToString()


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        prepare_model(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_files_that_are_no_models(tmp_path: Path):
    assert "no such model" in refused(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("This is a letter to my aunt.")
    assert "not an ONNX model" in refused(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert "not an ONNX model" in refused(tmp_path / "empty.onnx")
    whole = residual_network().SerializeToString()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "half.onnx")


def test_invalid_graphs(tmp_path: Path):
    model = residual_network()
    model.graph.node[1].input[0] = "nowhere"
    assert "not valid ONNX" in refused(save(model, tmp_path))


@pytest.mark.parametrize("opset", [6, 99])
def test_opsets_out_of_reach(tmp_path: Path, opset: int):
    model = residual_network()
    model.opset_import[0].version = opset
    refused(save(model, tmp_path))


def external(folder: Path, location: str) -> Path:
    model = residual_network()
    tensor = model.graph.initializer[0]
    data = numpy_helper.to_array(tensor).tobytes()
    (folder / "weights.bin").write_bytes(data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(data)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_beside_the_model_is_read(tmp_path: Path):
    prepared = prepare_model(external(tmp_path, "weights.bin"))
    assert compare(residual_network(), prepared.model) < 1e-5


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str):
    (tmp_path / "inside").mkdir()
    path = external(tmp_path / "inside", location)
    assert "outside the model's folder" in refused(path)


def test_absent_external_data_is_named(tmp_path: Path):
    path = external(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").unlink()
    assert "weights.bin" in refused(path)


REAL = sorted(
    [
        "camera/nanodet_m_320.onnx",
        "camera/light_person_detector.onnx",
        "camera/fastestdet_352.onnx",
        "control/pilotnet.onnx",
        "lidar/tiny_rpn.onnx",
        "lidar/tiny_pfe.onnx",
        "lidar/tiny_e2e.onnx",
        "recognition/mnist.onnx",
        "recognition/vww_96_float.onnx",
        "voice/kws_ref_model_float32.onnx",
    ]
)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", REAL)
def test_real_models_are_prepared_and_compute_the_same(shared_data: Path, name: str):
    prepared = prepare_model(shared_data / name)
    assert opset_of(prepared.model) == OPSET
    assert prepared.deviation < 1e-4
    names = [node.name for node in prepared.model.graph.node]
    assert len(set(names)) == len(names)
