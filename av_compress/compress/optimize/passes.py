# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Passes: small objects that check or change a model, and what is reported of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol

import onnx
from onnx import shape_inference

from av_compress.compress.graph import GraphIndex, nested_nodes
from av_compress.errors import ModelError

OPSET = 19
# Reordered sums differ by some units in the last place per layer; a wrong conversion by far more.
TOLERANCE = 1e-3

_QUANTISED = re.compile("Quantize|^QLinear|^QGemm$|^QAttention$|^(Conv|MatMul)Integer")


@dataclass(frozen=True)
class Cost:
    """What a model takes for one frame; dynamic and unknown extents count as 1.

    Attributes:
        nodes: of the top-level graph.
        macs: multiply-accumulates of the nodes with constant weights, two FLOPs each.
        elements: elements of all tensors that nodes make: what is written to memory where nothing
            is fused.

    """

    nodes: int
    macs: int
    elements: int


@dataclass(frozen=True)
class PassReport:
    """What a pass did.

    Attributes:
        name: of the pass.
        nodes_before: number of nodes that it found.
        nodes_after: number of nodes that it left.
        detail: in words; empty where nothing changed.
        macs_before: multiply-accumulates a frame that it found.
        macs_after: multiply-accumulates a frame that it left.
        elements_before: elements of all activations that it found.
        elements_after: elements of all activations that it left.
        deviation: largest difference that it made to the outputs, relative to the largest output;
            None where it changed nothing, or where the model cannot be run.

    """

    name: str
    nodes_before: int
    nodes_after: int
    detail: str
    macs_before: int = 0
    macs_after: int = 0
    elements_before: int = 0
    elements_after: int = 0
    deviation: float | None = None

    @property
    def after(self) -> Cost:
        """What the model takes after the pass."""
        return Cost(self.nodes_after, self.macs_after, self.elements_after)


class Pass(Protocol):
    """A step of the preparation. Deterministic: equal models in, equal models out.

    Attributes:
        name: in reports, errors and recipes.
        required: nothing works without it: where it fails, the build fails. Other passes are
            dropped where they change what the model computes.
        rewrites: it touches arithmetic, so that what it does has to be proven.
        tolerance: how much it may change the outputs, relative to the largest output.

    """

    name: str
    required: bool
    rewrites: bool
    tolerance: float

    def requires(self, model: onnx.ModelProto) -> None:
        """Check this pass's precondition.

        Raises:
            ModelError: the pass cannot work on this model.

        """

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Return the changed model, or the same object, and what was done in words."""
        ...


class Required:
    """Most passes of the preparation proper: no precondition, and nothing works without them."""

    required = True
    rewrites = True
    tolerance = TOLERANCE

    def requires(self, model: onnx.ModelProto) -> None:
        """Need nothing."""


class Droppable:
    """Most optimisations: no precondition, and dropped where they do harm."""

    required = False
    rewrites = True
    tolerance = TOLERANCE

    def requires(self, model: onnx.ModelProto) -> None:
        """Need nothing."""


def apply(
    step: Pass, model: onnx.ModelProto, before: Cost | None = None
) -> tuple[onnx.ModelProto, PassReport]:
    """Check a pass's precondition, run it and report; whether it is right is not checked here.

    Args:
        step: the pass.
        model: it stays as it is.
        before: its cost, where that is known.

    """
    step.requires(model)
    known = cost(model) if before is None else before
    changed, detail = step.run(model)
    after = known if changed is model else cost(changed)
    return changed, report_of(step.name, known, after, detail)


def report_of(
    name: str, before: Cost, after: Cost, detail: str, deviation: float | None = None
) -> PassReport:
    """Report a pass by the cost of the model before and after it."""
    return PassReport(
        name,
        before.nodes,
        after.nodes,
        detail,
        before.macs,
        after.macs,
        before.elements,
        after.elements,
        deviation,
    )


def cost(model: onnx.ModelProto) -> Cost:
    """Count what a model takes, whether or not its shapes have been inferred."""
    counted = infer_shapes(model)
    for node in counted.graph.node:
        if node.op_type == "Constant":
            for attr in node.attribute:
                if attr.name == "value":
                    counted.graph.initializer.add().CopyFrom(attr.t)
                    counted.graph.initializer[-1].name = node.output[0]
    index = GraphIndex(counted)
    made = [name for node in counted.graph.node for name in node.output]
    shapes = [index.shape(name) for name in made if name and name not in index.constants]
    elements = sum(math.prod(extent or 1 for extent in shape) for shape in shapes if shape)
    macs = sum(index.macs(node) for node in counted.graph.node)
    return Cost(len(counted.graph.node), macs, elements)


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with the shapes that can be inferred; never fails."""
    try:
        return shape_inference.infer_shapes(model, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        return copy_of(model)


def refuse_quantised(model: onnx.ModelProto) -> None:
    """Check that a model is none that a quantiser has written.

    Raises:
        ModelError: it holds quantised operators, at the top or in a subgraph.

    """
    nodes = [*model.graph.node, *(n for node in model.graph.node for n in nested_nodes(node))]
    found = sorted({n.op_type for n in nodes if _QUANTISED.search(n.op_type)})
    if found:
        raise ModelError(
            f"the model is quantised already ({', '.join(found)}); start from the FP32 model it "
            "was made from"
        )


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the default domain; 0 where the model does not say."""
    return next((int(o.version) for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that may be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
