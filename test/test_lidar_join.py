# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Two parts of a pillar model, joined: against a scatter in numpy between the parts."""

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers_lidar_task import COLUMNS, LOWER, ROWS, SIZE, UPPER, cloud, make
from onnx import TensorProto, helper, numpy_helper

from av_compress.compress.join import join_pillar_model
from av_compress.compress.optimize.prepare import PrepareOptions, prepare_model
from av_compress.engines.onnxruntime import OnnxRuntimeEngine
from av_compress.errors import ModelError
from av_compress.tasks.lidar_detection.grid import Grid

GRID = Grid(LOWER, UPPER, SIZE)
CHANNELS = 5
MAPS = ["dx", "dy", "z", "log_length", "log_width", "log_height", "sin", "cos"]


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, constants, opset=13):
    graph = helper.make_graph(nodes, "part", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def encoder(rank=2, opset=13, voxels="V", kind=TensorProto.FLOAT):
    """A PointNet: features [voxels, 4, 9], the largest of each channel over a voxel's points.

    Its names are those of the backbone, too.
    """
    wide = helper.tensor_dtype_to_np_dtype(kind)
    weight = np.random.default_rng(1).normal(0, 1, (9, CHANNELS)).astype(wide)
    shape = [voxels, CHANNELS] if rank == 2 else [voxels, 1, CHANNELS]
    nodes = [
        helper.make_node("MatMul", ["voxels", "weight"], ["inner"], name="first"),
        helper.make_node("Relu", ["inner"], ["positive"], name="second"),
        helper.make_node(
            "ReduceMax", ["positive"], ["features"], axes=[1], keepdims=int(rank == 3)
        ),
    ]
    inputs = [value("voxels", [voxels, 4, 9], kind)]
    return model(
        nodes, inputs, [value("features", shape, kind)], [tensor("weight", weight)], opset
    )


def backbone(
    opset=13, shape=(1, CHANNELS, ROWS, COLUMNS), kind=TensorProto.FLOAT, output="heatmap"
):
    """A convolution of stride 2 to classes, and one to regressions."""
    wide = helper.tensor_dtype_to_np_dtype(kind)
    random = np.random.default_rng(2)
    constants = [
        tensor("weight", random.normal(0, 0.5, (3, shape[1], 3, 3)).astype(wide)),
        tensor("other", random.normal(0, 0.5, (8, shape[1], 3, 3)).astype(wide)),
    ]
    options = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["plane", "weight"], ["inner"], name="first", **options),
        helper.make_node("Sigmoid", ["inner"], [output], name="second"),
        helper.make_node("Conv", ["plane", "other"], ["reg"], name="third", **options),
    ]
    outputs = [value(output, [1, 3, 4, 6], kind), value("reg", [1, 8, 4, 6], kind)]
    return model(nodes, [value("plane", list(shape), kind)], outputs, constants, opset)


def run(made, feeds):
    session = onnxruntime.InferenceSession(made.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds)))


def apart(first, second, voxels, indices):
    """Run the parts with a scatter in numpy between them."""
    features = run(first, {"voxels": voxels})["features"].reshape(-1, CHANNELS)
    plane = np.zeros((1, CHANNELS, ROWS, COLUMNS), features.dtype)
    for row, cell in zip(features, indices):
        plane[0, :, cell // COLUMNS, cell % COLUMNS] = row
    return run(second, {"plane": plane})


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("index_dtype", ["int32", "int64"])
@pytest.mark.parametrize("count", [0, 1, 40, ROWS * COLUMNS])
def test_the_joined_model_scatters(opset, rank, index_dtype, count):
    first, second = encoder(rank, opset), backbone(opset)
    joined = join_pillar_model(first, second, GRID, index_dtype=index_dtype)
    random = np.random.default_rng(count)
    voxels = random.normal(0, 1, (count, 4, 9)).astype(np.float32)
    indices = random.permutation(ROWS * COLUMNS)[:count].astype(index_dtype)
    want = apart(first, second, voxels, indices)
    found = run(joined, {"voxels": voxels, "indices": indices})
    assert list(found) == ["heatmap", "reg"]
    for name, array in want.items():
        np.testing.assert_allclose(found[name], array, atol=1e-6)


def test_half_precision_and_a_fixed_number_of_voxels_are_joined():
    kind = TensorProto.FLOAT16
    joined = join_pillar_model(encoder(voxels=6, kind=kind), backbone(kind=kind), GRID, "places")
    assert [i.name for i in joined.graph.input] == ["voxels", "places"]
    assert joined.graph.input[1].type.tensor_type.shape.dim[0].dim_value == 6
    assert joined.graph.output[0].type.tensor_type.elem_type == kind
    # The last voxel again, as often as there is room: the same is written over it.
    voxels = np.random.default_rng(0).normal(0, 1, (6, 4, 9)).astype(np.float16)
    voxels[2:] = voxels[2]
    indices = np.array([5, 90, 17, 17, 17, 17])
    found = run(joined, {"voxels": voxels, "places": indices})
    want = apart(encoder(kind=kind), backbone(kind=kind), voxels[:3], indices[:3])
    np.testing.assert_allclose(found["reg"], want["reg"], atol=1e-2)


def test_the_joined_model_is_one_for_task_engine_and_optimiser(tmp_path):
    """Nothing that comes after knows that there were two."""
    joined = join_pillar_model(encoder(), backbone(), GRID)
    path = tmp_path / "joined.onnx"
    onnx.save(joined, path)
    head = {"type": "center", "stride": 2, "activation": "none", "maps": {"reg": MAPS}}
    task = make(head, score_threshold=0.05)
    points = np.random.default_rng(3).uniform([0, -2, -3, 0], [4.8, 2, 1, 1], (300, 4))
    frame = cloud(points.astype(np.float32))
    results = []
    for source in (path, prepare_model(path, PrepareOptions()).model.SerializeToString()):
        engine = OnnxRuntimeEngine(source)
        task.check_model(engine.inputs, engine.outputs)
        prepared = task.preprocess(frame)
        results.append(task.postprocess(engine.run(prepared.tensors).outputs, prepared.context))
        empty = task.preprocess(cloud(np.zeros((0, 4))))
        engine.run(empty.tensors)
        engine.close()
    assert len(results[0])
    np.testing.assert_allclose(results[0].boxes, results[1].boxes, atol=1e-4)


def with_output(made):
    """Give an encoder a second output."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    copy.graph.output.append(value("inner", ["V", 4, CHANNELS]))
    return copy


def with_domain(made, version):
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    copy.opset_import.append(helper.make_opsetid("com.microsoft", version))
    return copy


@pytest.mark.parametrize(
    ("first", "second", "options", "words"),
    [
        (encoder(opset=13), backbone(opset=17), {}, "has opset 13, the backbone opset 17"),
        (encoder(opset=9), backbone(opset=9), {}, "have opset 9; from 11 on"),
        (with_domain(encoder(), 1), with_domain(backbone(), 2), {}, "com.microsoft: 1 and 2"),
        (with_output(encoder()), backbone(), {}, "encoder makes features, inner"),
        (backbone(), encoder(), {}, "encoder makes heatmap, reg"),
        (
            encoder(),
            backbone(shape=(1, 7, ROWS, COLUMNS)),
            {},
            r"\[V,5\].*\[1,7,8,12\] do not fit",
        ),
        (
            encoder(),
            backbone(shape=(1, CHANNELS, 7, 11)),
            {},
            r"plane is \[1,5,7,11\]; the grid wants \[1,5,8,12\]",
        ),
        (encoder(kind=TensorProto.FLOAT16), backbone(), {}, "different element types"),
        (encoder(), backbone(), {"indices": "voxels"}, "'voxels' would be the name of two"),
        (encoder(), backbone(output="voxels"), {}, "'voxels' would be the name of two"),
        (
            encoder(),
            backbone(),
            {"grid": Grid(LOWER, UPPER, (0.4, 0.5, 1.0))},
            "the grid has 4 layers",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(first, second, options, words):
    with pytest.raises(ModelError, match=words):
        join_pillar_model(first, second, **{"grid": GRID, **options})
