# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Quantised graphs with a random change or two: most of them are wrong in some way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from helpers_qdq import CHANNELS, IMAGE, Draft, convolution, paired, product, residual
from onnx import TensorProto, helper, numpy_helper

Change = Callable[[Draft, np.random.Generator], None]

_BASES: list[Callable[[], Draft]] = [
    convolution,
    lambda: convolution(np.float16),
    lambda: convolution(group=CHANNELS),
    product,
    lambda: product("Gemm"),
    lambda: residual("skip"),
    lambda: residual("branch", "skip"),
    lambda: paired("Relu", "y_d"),
    lambda: paired("Concat", "y_d x_d", axis=1),
    lambda: paired("MaxPool", "y_d", kernel_shape=[3, 3], pads=[1] * 4),
]
_CASTS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.BOOL)
_BETWEEN = ("Relu", "Identity", "Sigmoid", "Neg", "Transpose", "Softmax", "Abs")
_PAIR = ("QuantizeLinear", "DequantizeLinear")


def mutant(seed: int) -> onnx.ModelProto:
    """Return a graph with one to three changes."""
    rng = np.random.default_rng(seed)
    draft = _BASES[rng.integers(len(_BASES))]()
    for _ in range(rng.integers(1, 4)):
        _CHANGES[rng.integers(len(_CHANGES))](draft, rng)
    opset = int(rng.choice([13, 17, 19, 19, 19, 21, 23]))
    return draft.model(opset)


def _scale(draft: Draft, rng: np.random.Generator) -> None:
    name = rng.choice(["x_scale", "w_scale"])
    old = numpy_helper.to_array(draft.constants[name])
    values = [0.02, 0.0, -0.1, np.nan, np.inf, 1e-9]
    shapes = [old.shape, (), (1,), (9,), (CHANNELS,)]
    shape = shapes[rng.integers(len(shapes))]
    draft.const(name, np.full(shape, rng.choice(values, p=[0.6] + [0.08] * 5), old.dtype))


def _scale_type(draft: Draft, rng: np.random.Generator) -> None:
    name = rng.choice(["x_scale", "w_scale"])
    old = numpy_helper.to_array(draft.constants[name])
    draft.const(name, old.astype(rng.choice([np.float32, np.float16])))


def _zero(draft: Draft, rng: np.random.Generator) -> None:
    name = rng.choice(["x_zero", "w_zero"])
    old = numpy_helper.to_array(draft.constants[name])
    dtype = rng.choice([np.int8, np.int8, np.uint8, np.int32])
    shapes = [old.shape, old.shape, (), (1,), (9,), (CHANNELS,)]
    shape = shapes[rng.integers(len(shapes))]
    draft.const(name, np.full(shape, rng.choice([0, 0, 0, 3]), dtype))


def _both(draft: Draft, rng: np.random.Generator) -> None:
    name = rng.choice(["x", "w"])
    old = numpy_helper.to_array(draft.constants[f"{name}_scale"])
    shapes = [(), (1,), (CHANNELS,)]
    shape = shapes[rng.integers(len(shapes))]
    draft.const(f"{name}_scale", np.full(shape, 0.05, old.dtype))
    draft.const(f"{name}_zero", np.zeros(shape, rng.choice([np.int8, np.uint8])))


def _no_zero(draft: Draft, rng: np.random.Generator) -> None:
    node = _pick(draft, rng, _PAIR)
    if node is not None:
        del node.input[2:]


def _axis(draft: Draft, rng: np.random.Generator) -> None:
    node = _pick(draft, rng, _PAIR)
    if node is not None:
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("axis", int(rng.integers(-2, 3))))


def _drop(draft: Draft, rng: np.random.Generator) -> None:
    """Take a node out; who read its result reads its first input."""
    node = draft.nodes[rng.integers(len(draft.nodes) - 1)]
    draft.nodes.remove(node)
    for other in draft.nodes:
        for index, name in enumerate(other.input):
            if name == node.output[0]:
                other.input[index] = node.input[0]


def _between(draft: Draft, rng: np.random.Generator) -> None:
    _insert(draft, rng, str(rng.choice(_BETWEEN)))


def _cast(draft: Draft, rng: np.random.Generator) -> None:
    _insert(draft, rng, "Cast", to=int(rng.choice(_CASTS)))


def _insert(draft: Draft, rng: np.random.Generator, op_type: str, **attributes: int) -> None:
    reader = draft.nodes[rng.integers(len(draft.nodes))]
    made = f"new{len(draft.nodes)}"
    draft.before(reader.name, op_type, reader.input[0], made, **attributes)
    draft.rewire(reader.name, 0, made)


def _input(draft: Draft, rng: np.random.Generator) -> None:
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT8)
    value = draft.inputs[0].type.tensor_type
    value.elem_type = int(rng.choice(kinds))


def _residual(draft: Draft, rng: np.random.Generator) -> None:
    """Add two tensors of the graph, whatever they are."""
    names = ["x", *(node.output[0] for node in draft.nodes)]
    made = f"total{len(draft.nodes)}"
    draft.node("Add", " ".join(map(str, rng.choice(names, 2))), made)
    draft.output(made, IMAGE)


def _operator(draft: Draft, rng: np.random.Generator) -> None:
    node = _pick(draft, rng, ("Relu", "Add", "MaxPool"))
    if node is not None:
        del node.attribute[:]
        node.op_type = {"Relu": "Erf", "Add": "Mul", "MaxPool": "Exp"}[node.op_type]


def _pick(draft: Draft, rng: np.random.Generator, kinds: tuple[str, ...]) -> onnx.NodeProto | None:
    found = [node for node in draft.nodes if node.op_type in kinds]
    return found[rng.integers(len(found))] if found else None


_CHANGES: tuple[Change, ...] = (
    _scale,
    _scale_type,
    _zero,
    _both,
    _no_zero,
    _axis,
    _drop,
    _between,
    _cast,
    _input,
    _residual,
    _operator,
)
