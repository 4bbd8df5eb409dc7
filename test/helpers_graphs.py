# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Small graphs written out node by node, and what ONNX's reference makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from helpers_models import run
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from av_compress.compress.graph import attribute

FLOAT = TensorProto.FLOAT


class Graph:
    """Collects nodes and constants; every node makes one tensor, named t0, t1, ..."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = attributes.pop("output", f"t{len(self.nodes)}")
        node = helper.make_node(op_type, inputs, [name], name=f"{op_type}_{name}", **attributes)
        self.nodes.append(node)
        return name

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def normal(self, *shape: int) -> str:
        return self.const(self.rng.normal(size=shape))

    def positive(self, *shape: int) -> str:
        return self.const(self.rng.uniform(0.5, 2, size=shape))

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def conv(self, source: str, inside: int, outside: int, size: int = 3, **attributes) -> str:
        weight = self.normal(outside, inside // attributes.get("group", 1), size, size)
        return self.op("Conv", source, weight, self.normal(outside), **attributes)

    def model(
        self,
        outputs: Sequence[str] | str,
        inputs: dict[str, Sequence[int | str]] | None = None,
        opset: int = 19,
        made: int = FLOAT,
        **more: Any,
    ) -> onnx.ModelProto:
        """Close the graph. Outputs have the rank that shape inference finds, or that is given."""
        given = {"x": [1, 4, 8, 8]} if inputs is None else inputs
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in given.items()],
            [helper.make_tensor_value_info(name, made, None) for name in names],
            self.constants,
        )
        opsets = [helper.make_opsetid("", opset)]
        opsets += [helper.make_opsetid(domain, 1) for domain in more.pop("domains", ())]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9, **more)
        return with_output_shapes(model)


def with_output_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    inferred = onnx.shape_inference.infer_shapes(model)
    for value, known in zip(model.graph.output, inferred.graph.output):
        value.CopyFrom(known)
        if not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.dim.add()
    return model


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def evaluate(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Run by ONNX's own evaluator; by ONNX Runtime where that cannot (grouped ConvTranspose)."""
    for node in model.graph.node:
        if node.op_type == "ConvTranspose" and attribute(node, "group", 1) > 1:
            return run(model, feeds)
    return list(ReferenceEvaluator(model).run(None, feeds))


def reference(
    model: onnx.ModelProto, batch: int = 1, seed: int = 3
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return random inputs (dynamic extents are `batch`) and what the standard makes of them."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.input:
        shape = [d.dim_value or batch for d in value.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = rng.normal(size=shape).astype(dtype)
    names = [value.name for value in model.graph.output]
    return feeds, dict(zip(names, evaluate(model, feeds)))


def assert_equal(before: onnx.ModelProto, after: onnx.ModelProto, batch: int = 1) -> None:
    """Both are valid, have the same border, and the standard makes the same of both."""
    onnx.checker.check_model(after, full_check=True)
    assert [v.name for v in after.graph.input] == [v.name for v in before.graph.input]
    assert [v.name for v in after.graph.output] == [v.name for v in before.graph.output]
    feeds, wanted = reference(before, batch)
    made = dict(zip(wanted, evaluate(after, feeds)))
    for name, want in wanted.items():
        scale = max(float(np.abs(want).max(initial=0)), 1e-6)
        np.testing.assert_allclose(made[name] / scale, want / scale, atol=2e-5)
