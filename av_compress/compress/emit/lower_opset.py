# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Opset 17 for parsers that read no newer one: what opsets 18 to 20 say otherwise, in its words.

ONNX's own converter goes down only where somebody wrote the step: for `Split` nobody did, and it
looks into no subgraph. What changed is little (ONNX's operator changelog): new element types,
which need nothing; inputs that were attributes; attributes that are new. What opset 17 cannot say
is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper, shape_inference

from av_compress.compress.graph import GraphIndex, attribute, nested_nodes, text_attribute
from av_compress.compress.names import Names
from av_compress.compress.optimize.standard import without_newer_operators
from av_compress.errors import ModelError

OPSET = 17
# The one that came with opset 17.
_IR_VERSION = 8
_STANDARD = frozenset({"", "ai.onnx"})


def lower_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that means the same in opset 17.

    Args:
        model: of opset 17 to 20, shapes inferred; it stays as it is.

    Raises:
        ModelError: opset 17 cannot say what an operator does; operator and node are named.

    """
    known = _Known(model)
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    for node in tuple(_all_nodes(lowered.graph)):
        if node.domain in _STANDARD:
            _CONVERSIONS.get(node.op_type, _as_it_is)(known, node)
            _refuse_newer(node)
    lowered.graph.initializer.extend(known.added)
    for opset in lowered.opset_import:
        if opset.domain in _STANDARD:
            opset.version = OPSET
    lowered.ir_version = min(lowered.ir_version, _IR_VERSION)
    return lowered


def with_known_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write operators that came after opset 17 by those before, where the standard says how.

    Args:
        model: shapes inferred; it stays as it is. Its opset stays too: see `lower_opset`.

    """
    written = without_newer_operators(model, OPSET)
    if written is model:
        return model
    for node in written.graph.node:
        node.name = node.name or f"{node.output[0]}_{node.op_type}"
    return shape_inference.infer_shapes(written)


class _Known:
    """What conversions ask of a model as it was, and the constants that they add."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._index = GraphIndex(model)
        self._names = Names(model.graph)
        self.added: list[onnx.TensorProto] = []

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        return self._index.shape(name)

    def rank(self, node: onnx.NodeProto) -> int:
        """Return the number of axes of what a node reads."""
        shape = self.shape(node.input[0])
        if shape is None:
            raise _refusal(node, "the number of axes that it reads is not known")
        return len(shape)

    def numbers(self, node: onnx.NodeProto, position: int) -> list[float] | None:
        """Return the content of an optional input; None where it is left out."""
        name = node.input[position] if position < len(node.input) else ""
        if not name:
            return None
        value = self._index.constant(name)
        if value is None:
            raise _refusal(node, f"its input {name} is no constant")
        return [float(number) for number in value.ravel()]

    def add(self, node: onnx.NodeProto, what: str, value: list[float], dtype: type) -> str:
        name = self._names.tensor(f"{node.name or node.output[0]}_{what}_opset{OPSET}")
        self.added.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name


def _reduce(known: _Known, node: onnx.NodeProto) -> None:
    """Make axes an attribute; without any, all were reduced."""
    axes = known.numbers(node, 1)
    if _take(node, "noop_with_empty_axes") and not axes:
        raise _refusal(node, "it reduces nothing (noop_with_empty_axes)")
    del node.input[1:]
    if axes:
        node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))


def _pad(known: _Known, node: onnx.NodeProto) -> None:
    """Give pads for every axis, as there was no choice."""
    if text_attribute(node, "mode") == "wrap":
        raise _refusal(node, "mode is wrap")
    axes = known.numbers(node, 3)
    del node.input[3:]
    if axes is None:
        return
    rank, pads = known.rank(node), known.numbers(node, 1) or []
    begins, ends = np.zeros(rank), np.zeros(rank)
    places = [int(axis) % rank for axis in axes]
    begins[places], ends[places] = pads[: len(places)], pads[len(places) :]
    node.input[1] = known.add(node, "pads", [*begins, *ends], np.int64)


def _split(known: _Known, node: onnx.NodeProto) -> None:
    """Give sizes where parts are unequal; without them, all were equal."""
    _take(node, "num_outputs")
    if len(node.input) > 1 and node.input[1]:
        return
    axis, count = attribute(node, "axis", 0), len(node.output)
    extent = (known.shape(node.input[0]) or ())[axis : axis + 1 or None]
    if not extent or extent[0] is None:
        raise _refusal(node, "whether its parts are equal is not known")
    whole, part = extent[0], -(-extent[0] // count)
    if whole % count:
        sizes = [float(part)] * (count - 1) + [float(whole - part * (count - 1))]
        del node.input[1:]
        node.input.append(known.add(node, "split", sizes, np.int64))


def _resize(known: _Known, node: onnx.NodeProto) -> None:
    """Give scales or sizes for every axis; nothing could be filtered before it shrinks."""
    if _take(node, "antialias"):
        raise _refusal(node, "antialias is set")
    policy = text_attribute(node, "keep_aspect_ratio_policy")
    _take(node, "keep_aspect_ratio_policy")
    if policy not in {"", "stretch"}:
        raise _refusal(node, f"keep_aspect_ratio_policy is {policy}")
    mode = text_attribute(node, "coordinate_transformation_mode")
    if mode == "half_pixel_symmetric":
        raise _refusal(node, f"coordinate_transformation_mode is {mode}")
    axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
    _take(node, "axes")
    if axes is not None:
        _resize_every_axis(known, node, axes)


def _resize_every_axis(known: _Known, node: onnx.NodeProto, axes: list[int]) -> None:
    rank = known.rank(node)
    places = [axis % rank for axis in axes]
    if known.numbers(node, 1):
        raise _refusal(node, "it has a region of interest and axes")
    for position, what, dtype in ((2, "scales", np.float32), (3, "sizes", np.int64)):
        given = known.numbers(node, position)
        if not given:
            continue
        shape = known.shape(node.input[0]) or ()
        kept = [1.0 if what == "scales" else extent for extent in shape]
        for place, value in zip(places, given):
            kept[place] = value
        if None in kept:
            raise _refusal(node, "it has axes, and the extents of others are dynamic")
        full = [float(value) for value in kept if value is not None]
        node.input[position] = known.add(node, what, full, dtype)


def _pool(known: _Known, node: onnx.NodeProto) -> None:
    """Drop dilations of one; what windows over the border count was not said."""
    dilations = next((list(a.ints) for a in node.attribute if a.name == "dilations"), [])
    _take(node, "dilations")
    if any(d != 1 for d in dilations):
        raise _refusal(node, f"dilations are {dilations}")
    ceil = attribute(node, "ceil_mode", 0)
    if node.op_type == "LpPool":
        _take(node, "ceil_mode")
    if ceil and (node.op_type == "LpPool" or attribute(node, "count_include_pad", 0)):
        raise _refusal(node, "ceil_mode is set")


def _scatter(known: _Known, node: onnx.NodeProto) -> None:
    """Refuse reductions that opset 18 brought."""
    reduction = text_attribute(node, "reduction")
    if reduction not in {"", "none", "add", "mul"}:
        raise _refusal(node, f"reduction is {reduction}")


def _grid_sample(known: _Known, node: onnx.NodeProto) -> None:
    """Name two modes as before opset 20."""
    for attr in node.attribute:
        if attr.name == "mode":
            attr.s = {b"linear": b"bilinear", b"cubic": b"bicubic"}.get(attr.s, attr.s)


def _unsaturated(known: _Known, node: onnx.NodeProto) -> None:
    """Drop what says something of FP8 alone, which opset 17 does not have."""
    _take(node, "saturate")


def _as_it_is(known: _Known, node: onnx.NodeProto) -> None:
    """Change nothing."""


_Conversion: TypeAlias = Callable[[_Known, onnx.NodeProto], None]
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
_CONVERSIONS: Mapping[str, _Conversion] = {
    **{f"Reduce{name}": _reduce for name in _REDUCTIONS},
    "Pad": _pad,
    "Split": _split,
    "Resize": _resize,
    "AveragePool": _pool,
    "LpPool": _pool,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
    "GridSample": _grid_sample,
    "Cast": _unsaturated,
    "CastLike": _unsaturated,
    "QuantizeLinear": _unsaturated,
}


def _refuse_newer(node: onnx.NodeProto) -> None:
    """Check that opset 17 knows an operator, its attributes and its inputs."""
    try:
        schema = defs.get_schema(node.op_type, OPSET, "")
    except defs.SchemaError as error:
        raise _refusal(node, f"opset {OPSET} does not have it") from error
    unknown = sorted(a.name for a in node.attribute if a.name not in schema.attributes)
    if unknown:
        raise _refusal(node, f"opset {OPSET} does not know its {', '.join(unknown)}")
    if len(node.input) > schema.max_input:
        raise _refusal(node, f"in opset {OPSET} it has {schema.max_input} inputs at most")


def _take(node: onnx.NodeProto, name: str) -> int:
    """Remove an attribute; return its integer, 0 where there is none."""
    value = attribute(node, name, 0)
    kept = [a for a in node.attribute if a.name != name]
    if len(kept) < len(node.attribute):
        del node.attribute[:]
        node.attribute.extend(kept)
    return value


def _refusal(node: onnx.NodeProto, why: str) -> ModelError:
    return ModelError(
        f"node {node.name or node.output[0]} ({node.op_type}) cannot be written in opset {OPSET}, "
        f"the newest that TensorRT 8.6 reads: {why}; export the model without it, or take "
        f"tensorrt_8 out of the recipe's emitters"
    )


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        yield from nested_nodes(node)
