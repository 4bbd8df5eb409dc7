# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Models of every kind that users bring: prepared, or refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_graphs import Graph, kinds
from helpers_models import EVERYTHING, quantised, run, sqnr_db
from onnx import TensorProto, helper, numpy_helper

from av_compress.compress.emit.strip import strip
from av_compress.compress.observe.calibrate import MagnitudeProbe
from av_compress.compress.optimize.passes import OPSET, opset_of
from av_compress.compress.optimize.prepare import PreparedModel, PrepareOptions, prepare_model
from av_compress.compress.plan.precision import Precision, make_plan
from av_compress.errors import ModelError

FP32_BASE = replace(EVERYTHING, base=Precision.FP32)


def prepared(
    model: onnx.ModelProto, folder: Path, options: PrepareOptions | None = None, samples=()
) -> PreparedModel:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return prepare_model(path, options or PrepareOptions(), samples)


def details(result: PreparedModel) -> dict[str, str]:
    return {report.name: report.detail for report in result.reports if report.detail}


class TestOpsets:
    @pytest.mark.parametrize("opset", [*range(7, 23), onnx.defs.onnx_opset_version()])
    def test_brought_to_one(self, tmp_path: Path, opset: int):
        g = Graph()
        pooled = g.op("MaxPool", g.op("Relu", g.conv("x", 4, 6)), kernel_shape=[2, 2])
        flat = g.op("Flatten", g.op("Concat", pooled, pooled, axis=1), axis=1)
        model = g.model(g.op("Gemm", flat, g.normal(300, 3), g.normal(3)), opset=opset)
        result = prepared(model, tmp_path)
        assert opset_of(result.model) == OPSET
        assert result.deviation is not None
        assert result.deviation < 1e-5

    def test_newer_operators_are_written_by_older_ones(self, tmp_path: Path):
        g = Graph()
        model = g.model(g.op("Gelu", g.conv("x", 4, 4)), opset=22)
        result = prepared(model, tmp_path)
        assert opset_of(result.model) == OPSET
        assert "Gelu" not in kinds(result.model)
        assert result.deviation < 1e-5

    def test_what_has_no_older_form_is_named(self, tmp_path: Path):
        g = Graph()
        shape = g.ints(1, 4, 8, 8)
        g.nodes.append(helper.make_node("ImageDecoder", ["bytes"], ["decoded"], name="decode"))
        cast = g.op("Cast", "decoded", to=TensorProto.FLOAT)
        model = g.model(g.op("Reshape", cast, shape), {"bytes": ["n"]}, opset=22)
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
        with pytest.raises(ModelError, match=r"from opset 22 to 19: .*ImageDecoder"):
            prepared(model, tmp_path)

    def test_what_the_converter_cannot_raise(self, tmp_path: Path):
        g = Graph()
        constants = [g.positive(4, 8, 8) for _ in range(4)]
        model = g.model(g.op("BatchNormalization", "x", *constants, spatial=0), opset=7)
        with pytest.raises(ModelError, match=r"from opset 7 to 19: .*spatial.* export it again"):
            prepared(model, tmp_path)


def test_dead_and_double_nodes_go_and_constants_fold(tmp_path: Path):
    g = Graph()
    weight = g.op("Transpose", g.op("Mul", g.normal(3, 3, 4, 5), g.const(2)), perm=[3, 2, 0, 1])
    first, second = (g.op("Relu", g.op("Conv", "x", weight)) for _ in range(2))
    g.op("Exp", second)
    result = prepared(g.model(g.op("Add", first, second)), tmp_path)
    assert kinds(result.model) == ["Conv", "Relu", "Add"]
    assert [list(t.dims) for t in result.model.graph.initializer] == [[5, 4, 3, 3]]
    assert result.deviation < 1e-6


def test_unsorted_nodes_constant_nodes_and_functions(tmp_path: Path):
    g = Graph()
    scale = numpy_helper.from_array(np.array(2, np.float32))
    g.nodes.append(helper.make_node("Constant", [], ["two"], value=scale))
    g.nodes.append(helper.make_node("Twice", [g.conv("x", 4, 4)], ["y"], domain="own", name="f"))
    body = [helper.make_node("Add", ["a", "a"], ["b"]), helper.make_node("Relu", ["b"], ["c"])]
    function = helper.make_function("own", "Twice", ["a"], ["c"], body, [g_opset()])
    model = g.model(g.op("Mul", "y", "two"), domains=["own"], functions=[function])
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    result = prepared(model, tmp_path)
    assert details(result)["tidy"] == "1 functions inlined, 1 constants taken out of nodes"
    assert set(kinds(result.model)) <= {"Conv", "Add", "Mul", "Relu"}


def g_opset() -> onnx.OperatorSetIdProto:
    return helper.make_opsetid("", OPSET)


class TestHalf:
    def half(self) -> onnx.ModelProto:
        g = Graph()
        activated = g.op("Relu", g.conv("x", 4, 8))
        wide = g.op("Cast", activated, to=TensorProto.FLOAT)
        squared = g.op("Cast", g.op("Mul", wide, wide), to=TensorProto.FLOAT16)
        model = g.model([g.conv(squared, 8, 4), activated])
        for tensor in model.graph.initializer:
            value = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        return model

    def test_cast_up_inside_and_kept_at_the_border(self, tmp_path: Path):
        model = self.half()
        result = prepared(model, tmp_path)
        assert details(result)["cast to fp32"] == (
            "4 constants cast from FP16 to FP32; x, t5, t1 stay FP16"
        )
        border = [*result.model.graph.input, *result.model.graph.output]
        assert {v.type.tensor_type.elem_type for v in border} == {TensorProto.FLOAT16}
        halves = [t for t in result.model.graph.initializer if t.data_type != TensorProto.FLOAT]
        assert not halves
        assert result.deviation < 0.01
        assert kinds(result.model).count("Cast") == 3

    @pytest.mark.parametrize("form", ["tensorrt", "cpu"])
    def test_quantised(self, tmp_path: Path, form: str):
        model = self.half()
        rng = np.random.default_rng(2)
        sample = {"x": rng.normal(size=(1, 4, 8, 8)).astype(np.float16)}
        emitted, plan = quantised(prepared(model, tmp_path).model, FP32_BASE, form)
        assert len(plan.quantised()) == 2
        for want, got in zip(run(model, sample), run(emitted, sample, exact=True)):
            assert sqnr_db(want, got) > 20


def branches(g: Graph, source: str) -> str:
    """Return an If whose branches convolve, with the same name and a weight from outside."""
    weight = g.normal(4, 4, 1, 1)
    bodies = {}
    for name in ("then_branch", "else_branch"):
        node = helper.make_node("Conv", [source, weight], [f"{name}_c"], name=f"inner_{name[:4]}")
        last = helper.make_node("Neg" if name[0] == "t" else "Abs", [f"{name}_c"], [f"{name}_y"])
        made = helper.make_tensor_value_info(f"{name}_y", 1, [1, 4, 8, 8])
        bodies[name] = helper.make_graph([node, last], name, [], [made])
    mean = g.op("ReduceMean", source, keepdims=0)
    return g.op("If", g.op("Greater", mean, g.const(0)), **bodies)


def loop(g: Graph, source: str) -> str:
    """Return a Loop that doubles a tensor three times."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["state", "state"], ["next"]),
        ],
        "body",
        [value("i", 7, []), value("go", 9, []), value("state", 1, [1, 4, 8, 8])],
        [value("go_on", 9, []), value("next", 1, [1, 4, 8, 8])],
    )
    return g.op("Loop", g.const(3, np.int64), g.const(True, bool), source, body=body)


class TestControlFlow:
    def model(self) -> onnx.ModelProto:
        g = Graph()
        scaled = g.op("Mul", g.conv("x", 4, 4, pads=[1] * 4), g.positive(4, 1, 1))
        looped = loop(g, branches(g, scaled))
        return g.model(g.op("Relu", g.conv(looped, 4, 5)))

    def test_kept_with_what_is_inside_named(self, tmp_path: Path):
        result = prepared(self.model(), tmp_path)
        said = details(result)["check"]
        assert "If 'If_t4' kept as it is; in float inside: inner_else, inner_then" in said
        assert "Loop 'Loop_t5' kept as it is" in said
        assert {"If", "Loop"} <= set(kinds(result.model))
        # What a branch reads by name is there, and the rest was optimised.
        assert "Mul" not in kinds(result.model)
        assert result.deviation < 1e-5

    @pytest.mark.parametrize("form", ["tensorrt", "cpu"])
    def test_quantised_around(self, tmp_path: Path, form: str):
        model = self.model()
        emitted, plan = quantised(prepared(model, tmp_path).model, FP32_BASE, form)
        assert len(plan.quantised()) == 2
        onnx.checker.check_model(emitted, full_check=True)
        sample = {"x": np.random.default_rng(1).normal(size=(1, 4, 8, 8)).astype(np.float32)}
        want, got = run(model, sample)[0], run(emitted, sample, exact=True)[0]
        assert sqnr_db(want, got) > 20

    def test_quantised_inside_is_refused(self, tmp_path: Path):
        model = self.model()
        branch = next(n for n in model.graph.node if n.op_type == "If").attribute[0].g
        branch.node[1].op_type = "DynamicQuantizeLinear"
        branch.node[1].output.extend(["s", "z"])
        with pytest.raises(ModelError, match=r"quantised already \(DynamicQuantizeLinear\)"):
            prepared(model, tmp_path)

    def test_old_branches_are_raised_too(self, tmp_path: Path):
        """Squeeze had its axes as an attribute before opset 13."""
        g = Graph()
        bodies = {}
        for name in ("then_branch", "else_branch"):
            node = helper.make_node("Squeeze", ["x"], [f"{name}_y"], axes=[0])
            made = helper.make_tensor_value_info(f"{name}_y", 1, [4, 8, 8])
            bodies[name] = helper.make_graph([node], name, [], [made])
        large = g.op("Greater", g.op("ReduceMean", "x", keepdims=0), g.const(0))
        model = g.model(g.op("Relu", g.op("If", large, **bodies)), opset=11)
        assert prepared(model, tmp_path).deviation < 1e-6


class TestForeignOperators:
    def model(self, shape: list[int] | None) -> onnx.ModelProto:
        g = Graph()
        scaled = g.op("Mul", g.conv("x", 4, 4), g.positive(4, 1, 1))
        g.nodes.append(helper.make_node("Magic", [scaled], ["m"], domain="acme", name="wand"))
        model = g.model(g.op("Relu", g.conv("m", 4, 5)), domains=["acme"], opset=13)
        if shape is not None:
            known = helper.make_tensor_value_info("m", TensorProto.FLOAT, shape)
            model.graph.value_info.append(known)
        return model

    def test_with_a_known_result_the_rest_is_proven(self, tmp_path: Path):
        result = prepared(self.model([1, 4, 6, 6]), tmp_path)
        assert kinds(result.model) == ["Conv", "Magic", "Conv", "Relu"]
        assert details(result)["check"] == "1 Magic of domain acme kept as they are"
        assert result.deviation < 1e-5
        assert not result.unproven

    def test_with_an_unknown_result_nothing_is_optimised(self, tmp_path: Path):
        result = prepared(self.model(None), tmp_path)
        assert kinds(result.model) == ["Conv", "Mul", "Magic", "Conv", "Relu"]
        assert result.deviation is None
        assert "does not know Magic of domain acme (node 'wand')" in result.unproven
        assert opset_of(result.model) == OPSET
        said = details(result)["fold affine"]
        assert said == "not tried: that it is right could not be proven"
        assert details(result)["prove"] == f"not proven: {result.unproven}"

    def test_what_has_to_run_it_names_the_node(self, tmp_path: Path):
        model = prepared(self.model([1, 4, 6, 6]), tmp_path).model
        with pytest.raises(ModelError, match=r"'wand' is Magic of domain acme.*; cut it off, or"):
            MagnitudeProbe(model)

    @pytest.mark.parametrize("form", ["tensorrt", "cpu"])
    def test_quantised_around(self, tmp_path: Path, form: str):
        """Ranges come from elsewhere: ONNX Runtime cannot observe such a model."""
        from av_compress.compress.emit.quantize import quantize, tensors_to_observe

        model = prepared(self.model([1, 4, 6, 6]), tmp_path).model
        plan = make_plan(model, FP32_BASE)
        ranges = dict.fromkeys(tensors_to_observe(model, plan, form), (-4.0, 4.0))
        emitted = quantize(model, plan, ranges, {}, form)
        assert "Magic" in kinds(emitted)
        assert kinds(strip(emitted)) == kinds(model)


class TestDynamicShapes:
    def model(self) -> onnx.ModelProto:
        """A detector's end that reshapes by what it computes from the input's shape."""
        g = Graph()
        small = g.conv("x", 3, 8, pads=[1] * 4, strides=[2, 2])
        shape = g.op("Shape", small)
        batch = g.op("Gather", shape, g.ints(0))
        flat = g.op("Reshape", small, g.op("Concat", batch, g.ints(8), g.ints(-1), axis=0))
        sides = [g.op("Gather", shape, g.const(axis, np.int64)) for axis in (2, 3)]
        ends = [g.const(0, np.int64), g.op("Mul", *sides), g.const(1, np.int64)]
        grid = g.op("Range", *ends)
        shifted = g.op("Add", flat, g.op("Cast", grid, to=TensorProto.FLOAT))
        return g.model(
            g.op("Transpose", shifted, perm=[0, 2, 1]), {"x": ["batch", 3, "height", "width"]}
        )

    def test_kept_and_proven_at_some_extents(self, tmp_path: Path):
        result = prepared(self.model(), tmp_path)
        dims = result.model.graph.input[0].type.tensor_type.shape.dim
        assert [d.dim_param for d in dims] == ["batch", "", "height", "width"]
        assert result.deviation < 1e-5
        for shape in ((1, 3, 32, 48), (2, 3, 16, 16)):
            sample = {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
            np.testing.assert_allclose(
                run(result.model, sample)[0], run(self.model(), sample)[0], atol=1e-5
            )

    def test_fixed_to_what_the_task_feeds(self, tmp_path: Path):
        options = PrepareOptions(shapes={"x": (1, 3, 32, 48), "absent": (1,)})
        result = prepared(self.model(), tmp_path, options)
        assert details(result)["fix shapes"] == "x is 1 x 3 x 32 x 48"
        assert not {"Shape", "Gather", "Range", "Concat"} & set(kinds(result.model))
        extents = [
            [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*result.model.graph.input, *result.model.graph.output)
        ]
        assert extents == [[1, 3, 32, 48], [1, 16 * 24, 8]]
        sample = {"x": np.random.default_rng(0).normal(size=(1, 3, 32, 48)).astype(np.float32)}
        np.testing.assert_allclose(
            run(result.model, sample)[0], run(self.model(), sample)[0], atol=1e-5
        )

    @pytest.mark.parametrize("shape", [(1, 4, 32, 32), (1, 3, 32)])
    def test_a_contradiction_is_left_to_the_task(self, tmp_path: Path, shape):
        result = prepared(self.model(), tmp_path, PrepareOptions(shapes={"x": shape}))
        assert "fix shapes" not in details(result)


NODES = {
    "camera/fastestdet_352": (211, 210),
    "camera/light_person_detector": (369, 360),
    "camera/nanodet_m_320": (238, 235),
    "control/pilotnet": (22, 19),
    "lidar/tiny_e2e": (115, 43),
    "lidar/tiny_pfe": (26, 6),
    "lidar/tiny_rpn": (44, 32),
    "recognition/mnist": (12, 8),
    "recognition/road_segmentation_adas_0001": (375, 320),
    "recognition/vww_96_float": (60, 60),
    "voice/kws_ref_model_float32": (29, 24),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", NODES)
def test_real_models(shared_data: Path, name: str):
    result = prepare_model(shared_data / f"{name}.onnx")
    assert opset_of(result.model) == OPSET
    onnx.checker.check_model(result.model, full_check=True)
    assert result.deviation < 1e-4
    assert (result.reports[0].nodes_before, result.reports[-1].nodes_after) == NODES[name]
    assert not [r.detail for r in result.reports if r.detail.startswith(("dropped", "not tried"))]
    names = [node.name for node in result.model.graph.node]
    assert len(set(names)) == len(names)
