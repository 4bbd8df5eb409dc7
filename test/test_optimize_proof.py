# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a preparation cuts off, and what it proves of every pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_graphs import Graph, kinds
from helpers_models import run
from onnx import TensorProto, helper, numpy_helper
from test_optimize_models import details, prepared

from av_compress.compress.optimize import prepare
from av_compress.compress.optimize.passes import Droppable, copy_of
from av_compress.compress.optimize.prepare import PrepareOptions


class TestSuppression:
    def model(self, turned: bool = True) -> onnx.ModelProto:
        g = Graph()
        features = g.op("Reshape", g.conv("x", 4, 12, 1), g.ints(1, 6, 128))
        boxes = g.op("Slice", features, g.ints(0), g.ints(4), g.ints(1))
        boxes = g.op("Transpose", boxes, perm=[0, 2, 1])
        scores = g.op("Sigmoid", g.op("Slice", features, g.ints(4), g.ints(6), g.ints(1)))
        by_box = g.op("Transpose", scores, perm=[0, 2, 1])
        read = g.op("Transpose", by_box, perm=[0, 2, 1]) if turned else scores
        limits = [g.const(20, np.int64), g.const(0.5), g.const(0.1)]
        chosen = g.op("NonMaxSuppression", boxes, read, *limits, center_point_box=1)
        model = g.model([g.op("ReduceMean", by_box, g.ints(1))])
        index = helper.make_tensor_value_info(chosen, TensorProto.INT64, ["found", 3])
        model.graph.output.append(index)
        return model

    @pytest.mark.parametrize("turned", [True, False])
    def test_cut_off_where_the_user_asks(self, tmp_path: Path, turned: bool):
        model = self.model(turned)
        result = prepared(model, tmp_path, PrepareOptions(detach_nms=True))
        said = details(result)["detach nms"]
        assert said.startswith("NonMaxSuppression cut off: boxes (centre and size) and scores")
        outputs = result.model.graph.output
        assert [o.name for o in outputs][1:] == ["boxes", "scores"]
        shapes = [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in outputs]
        assert shapes[1:] == [[1, 128, 4], [1, 128, 2]]
        assert "NonMaxSuppression" not in kinds(result.model)
        sample = {"x": np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32)}
        mean, boxes, scores = run(result.model, sample)
        want_mean, chosen = run(model, sample)
        np.testing.assert_allclose(mean, want_mean, atol=1e-6)
        np.testing.assert_allclose(scores.mean(axis=1, keepdims=True), mean, atol=1e-6)
        # The suppression on what came out finds what it found inside.
        assert chosen.shape[0] > 0
        np.testing.assert_array_equal(chosen, suppressed(boxes, scores))

    def test_else_it_stays(self, tmp_path: Path):
        result = prepared(self.model(), tmp_path)
        assert "NonMaxSuppression" in kinds(result.model)
        assert result.deviation < 1e-5

    def test_a_plugin_of_tensorrt(self, tmp_path: Path):
        g = Graph()
        features = g.op("Reshape", g.conv("x", 4, 12, 1), g.ints(1, 128, 6))
        boxes = g.op("Slice", features, g.ints(0), g.ints(4), g.ints(2))
        scores = g.op("Sigmoid", g.op("Slice", features, g.ints(4), g.ints(6), g.ints(2)))
        outputs = ["num_dets", "det_boxes", "det_scores", "det_classes"]
        node = helper.make_node(
            "EfficientNMS_TRT", [boxes, scores], outputs, name="nms", domain="TRT", box_coding=0
        )
        g.nodes.append(node)
        model = g.model(outputs, domains=["TRT"])
        del model.graph.output[:]
        for name, kind, shape in zip(
            outputs, (6, 1, 1, 6), ([1, 1], [1, 20, 4], [1, 20], [1, 20])
        ):
            model.graph.output.append(helper.make_tensor_value_info(name, kind, shape))
        kept = prepared(model, tmp_path)
        assert "EfficientNMS_TRT" in kinds(kept.model)
        assert kept.deviation < 1e-5
        cut = prepared(model, tmp_path, PrepareOptions(detach_nms=True))
        assert [o.name for o in cut.model.graph.output] == ["boxes", "scores"]
        assert details(cut)["detach nms"].startswith("EfficientNMS_TRT cut off: boxes (corners)")


def suppressed(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    g = Graph()
    limits = [g.const(20, np.int64), g.const(0.5), g.const(0.1)]
    turned = g.op("Transpose", "scores", perm=[0, 2, 1])
    chosen = g.op("NonMaxSuppression", "boxes", turned, *limits, center_point_box=1)
    inputs = {"boxes": list(boxes.shape), "scores": list(scores.shape)}
    model = g.model(chosen, inputs, made=TensorProto.INT64)
    return run(model, {"boxes": boxes, "scores": scores})[0]


class Doubling(Droppable):
    """A pass that is wrong where an input is beyond what random numbers reach."""

    name = "doubling"

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        changed = copy_of(model)
        weight = changed.graph.initializer[0]
        value = numpy_helper.to_array(weight) * np.float32(self.factor)
        weight.CopyFrom(numpy_helper.from_array(value, weight.name))
        return changed, "doubled"


class Clipping(Droppable):
    """A pass that is right on whatever is under 1000."""

    name = "clipping"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        changed = copy_of(model)
        limits = [np.array(v, np.float32) for v in (-1000, 1000)]
        names = [f"limit{i}" for i in range(2)]
        for name, value in zip(names, limits):
            changed.graph.initializer.append(numpy_helper.from_array(value, name))
        node = helper.make_node("Clip", ["x", *names], ["x_clipped"], name="clip")
        changed.graph.node[0].input[0] = "x_clipped"
        changed.graph.node.insert(0, node)
        return changed, "clipped"


class TestProof:
    def model(self) -> onnx.ModelProto:
        g = Graph()
        return g.model(g.op("Relu", g.conv("x", 4, 4)))

    def test_a_pass_that_changes_the_result_is_dropped(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(prepare, "OPTIMIZATIONS", (Doubling(2.0), Doubling(1.0)))
        result = prepared(self.model(), tmp_path)
        wrong, right = result.reports[-2:]
        assert wrong.detail.startswith("dropped: it changes the outputs by ")
        assert wrong.nodes_before == wrong.nodes_after
        assert (right.detail, right.deviation) == ("doubled", 0.0)
        assert result.deviation < 1e-6

    def test_real_samples_show_what_random_ones_do_not(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(prepare, "OPTIMIZATIONS", (Clipping(),))
        assert prepared(self.model(), tmp_path).reports[-1].detail == "clipped"
        sample = {"x": np.full((1, 4, 8, 8), 5000, np.float32)}
        result = prepared(self.model(), tmp_path, samples=[sample])
        assert result.reports[-1].detail.startswith("dropped")

    def test_passes_can_be_skipped(self, tmp_path: Path):
        g = Graph()
        model = g.model(g.op("Div", g.conv("x", 4, 4), g.positive(4, 1, 1)))
        assert kinds(prepared(model, tmp_path).model) == ["Conv"]
        result = prepared(model, tmp_path, PrepareOptions(skip=frozenset({"fold affine"})))
        assert kinds(result.model) == ["Conv", "Div"]
        assert "fold affine" not in {report.name for report in result.reports}

    def test_costs_are_counted(self, tmp_path: Path):
        g = Graph()
        conv = g.conv("x", 4, 5)
        g.op("Relu", g.conv("x", 4, 7))
        result = prepared(g.model(g.op("Mul", conv, g.const(0.5))), tmp_path)
        first, last = result.reports[0], result.reports[-1]
        assert first.macs_before == 36 * 36 * (5 + 7)
        assert last.macs_after == 36 * 36 * 5
        assert last.elements_after == 36 * 5
        assert (first.nodes_before, last.nodes_after) == (4, 1)
