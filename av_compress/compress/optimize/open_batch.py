# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The batch axis of a model, opened: what was made for one frame takes several at once.

Exported models have the batch of 1 baked into the targets of Reshape, not always as an extent of
its own: ShuffleNet's channel shuffle joins it with the channels. Where a tensor's batch is, is
found out by inferring all shapes for one frame and for several: in the axis whose extent grows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from av_compress.compress.graph import GraphIndex
from av_compress.compress.optimize.passes import TOLERANCE, copy_of, infer_shapes
from av_compress.compress.optimize.proof import run_model
from av_compress.errors import ModelError

AXIS_NAME = "batch"
# No extent of a network has it as a factor by accident.
_SEVERAL = 1009
# Operators that may be told what to make by a constant.
_TARGETED = frozenset({"Reshape", "Resize"})

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class OpenModel:
    """A model that takes several frames at once.

    Attributes:
        model: its inputs' and outputs' first axis is open.
        deviation: largest difference between frames together and alone, relative to the largest
            output.

    """

    model: onnx.ModelProto
    deviation: float


def open_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose inputs and outputs have an open first axis; `prove_batch` proves it.

    Args:
        model: its inputs have static shapes with a first extent of 1.

    Raises:
        ModelError: an input has none, an output does not grow with the batch, or a node can only
            work on one frame; it is named, and what to do.

    """
    opened = copy_of(model)
    _refuse_inputs(opened)
    single = _shapes(opened, 1)
    constants = {tensor.name: tensor for tensor in opened.graph.initializer}
    # Each round gets at least the first wrong target on each path right; one more sees it.
    for _ in range(1 + sum(node.op_type in _TARGETED for node in opened.graph.node)):
        several = _shapes(opened, _SEVERAL)
        if not _correct_all(opened, constants, single, several):
            break
    several = _shapes(opened, _SEVERAL)
    _refuse_outputs(opened, single, several)
    _drop_unread(opened)
    return _with_open_borders(opened)


def prove_batch(model: onnx.ModelProto, extent: int) -> float:
    """Run a model on several random frames at once and one by one.

    Args:
        model: its batch axis is open.
        extent: how many frames at once.

    Returns:
        the largest difference, relative to the largest magnitude of each output.

    Raises:
        ModelError: it does not run on several, or gives another number of results.

    """
    rng = np.random.default_rng(0)
    feeds = {v.name: _random(rng, v, extent) for v in _inputs(model)}
    parts = [{name: array[i : i + 1] for name, array in feeds.items()} for i in range(extent)]
    together, *alone = run_model(model, [feeds, *parts])
    worst = 0.0
    for name, array in together.items():
        wanted = np.concatenate([one[name] for one in alone])
        if array.shape != wanted.shape:
            raise ModelError(
                f"for {extent} frames its output {name} is {list(array.shape)}, not "
                f"{list(wanted.shape)}"
            )
        difference = np.abs(array.astype(np.float64) - wanted.astype(np.float64)).max(initial=0.0)
        largest = max(float(np.abs(wanted.astype(np.float64)).max(initial=0.0)), 1e-12)
        worst = max(worst, float(difference) / largest)
    return worst


def proven_open(model: onnx.ModelProto, extent: int, tolerance: float = TOLERANCE) -> OpenModel:
    """Open a model's batch, and prove that several frames at once give what each gives alone.

    Args:
        model: its inputs have static shapes with a first extent of 1.
        extent: how many frames at once; two are tried too.
        tolerance: largest difference, relative to the largest output.

    Raises:
        ModelError: it cannot be opened; says why, and what to do.

    """
    what_to_do = "export it with a dynamic batch axis, or leave optimize.max_batch out"
    try:
        opened = open_batch(model)
        deviation = max(prove_batch(opened, several) for several in sorted({2, extent}))
    except ModelError as error:
        raise ModelError(f"its batch cannot be opened: {error}; {what_to_do}") from error
    # NaN too: nothing is proven by it.
    if not deviation <= tolerance:
        raise ModelError(
            f"its batch cannot be opened: {extent} frames at once give results that differ by "
            f"{deviation:.2g} of the largest from those of single frames; {what_to_do}"
        )
    return OpenModel(opened, deviation)


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _refuse_inputs(model: onnx.ModelProto) -> None:
    for value in _inputs(model):
        dims = value.type.tensor_type.shape.dim
        extents = [dim.dim_value for dim in dims]
        if not extents or extents[0] != 1 or 0 in extents:
            raise ModelError(f"its input {value.name} is {extents}, not one frame of static shape")


def _shapes(model: onnx.ModelProto, batch: int) -> Mapping[str, Shape | None]:
    """Infer every tensor's shape for a batch of this extent."""
    fixed = copy_of(model)
    for value in _inputs(fixed):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    _forget_shapes(fixed)
    inferred = infer_shapes(fixed)
    index = GraphIndex(inferred)
    names = [name for node in inferred.graph.node for name in (*node.input, *node.output) if name]
    return {name: index.shape(name) for name in names}


def _forget_shapes(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _correct_all(
    model: onnx.ModelProto,
    constants: dict[str, onnx.TensorProto],
    single: Mapping[str, Shape | None],
    several: Mapping[str, Shape | None],
) -> bool:
    """Let every node keep the batch; tell whether anything was changed."""
    changed = False
    for node in model.graph.node:
        if node.op_type not in _TARGETED:
            continue
        axis = _batch_axis(single.get(node.input[0]), several.get(node.input[0]))
        if axis is None:
            continue
        made = single.get(node.output[0])
        if made is None or None in made:
            raise ModelError(f"the shape of what node {node.name!r} makes is not known")
        extents = [extent or 0 for extent in made]
        if node.op_type == "Reshape":
            before = [extent or 0 for extent in single[node.input[0]] or ()]
            target = _target(node, before, extents, axis)
            changed |= _replace_input(model, node, 1, np.array(target, np.int64), constants)
        elif len(node.input) > 3 and node.input[3]:
            changed |= _scale_instead(model, node, single, extents, constants)
    return changed


def _batch_axis(single: Shape | None, several: Shape | None) -> int | None:
    """Return the axis that holds the batch; None where there is none, or it is not known yet."""
    if single is None or several is None or len(single) != len(several):
        return None
    grown = [axis for axis, (one, many) in enumerate(zip(single, several)) if one != many]
    if len(grown) != 1:
        return None
    one, many = single[grown[0]], several[grown[0]]
    return grown[0] if one is not None and many == one * _SEVERAL else None


def _target(node: onnx.NodeProto, before: Sequence[int], made: Sequence[int], axis: int) -> Shape:
    """Return the target of a Reshape in which the batch is free.

    Elements keep their order, so the batch goes where as many elements are outside of it.
    """
    outside = math.prod(before[:axis])
    found = [place for place in range(len(made)) if math.prod(made[:place]) == outside]
    if not found:
        raise ModelError(
            f"node {node.name!r} reshapes {list(before)} to {list(made)}, which divides the "
            "frames of a batch"
        )
    place = found[0]
    # A copied extent keeps its name in shape inference, a free one does not.
    free = 0 if place == axis and made[place] == before[axis] else -1
    return (*made[:place], free, *made[place + 1 :])


def _scale_instead(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    single: Mapping[str, Shape | None],
    made: Sequence[int],
    constants: dict[str, onnx.TensorProto],
) -> bool:
    """Give a Resize to fixed sizes the scales that come to the same."""
    before = [extent or 0 for extent in single[node.input[0]] or ()]
    axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
    if axes is not None and 0 not in axes:
        return False  # Its sizes say nothing of the batch.
    scales = np.array([after / max(size, 1) for after, size in zip(made, before)], np.float32)
    if [math.floor(size * float(scale)) for size, scale in zip(before, scales)] != list(made):
        raise ModelError(f"node {node.name!r} resizes to sizes that no scale gives exactly")
    kept = [attribute for attribute in node.attribute if attribute.name != "axes"]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.input[3] = ""
    _replace_input(model, node, 2, scales, constants)
    del node.input[3:]
    return True


def _replace_input(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    position: int,
    value: Any,
    constants: dict[str, onnx.TensorProto],
) -> bool:
    """Let a node read a constant of its own; tell whether it is another one than before."""
    before = constants.get(node.input[position])
    if before is not None and np.array_equal(numpy_helper.to_array(before), value):
        return False
    name = f"{node.output[0]}_any_batch"
    if name in constants:
        constants[name].CopyFrom(numpy_helper.from_array(value, name))
    else:
        model.graph.initializer.append(numpy_helper.from_array(value, name))
        constants[name] = model.graph.initializer[-1]
    node.input[position] = name
    if node.op_type == "Reshape":
        kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
        del node.attribute[:]
        node.attribute.extend(kept)
    return True


def _refuse_outputs(
    model: onnx.ModelProto,
    single: Mapping[str, Shape | None],
    several: Mapping[str, Shape | None],
) -> None:
    for value in model.graph.output:
        one, many = single.get(value.name), several.get(value.name)
        if _batch_axis(one, many) != 0 or (one or (0,))[0] != 1:
            raise ModelError(
                f"its output {value.name} is {_text(one)} for one frame and "
                f"{_text(many, many_is=True)} for n frames; wanted is a first axis of frames"
            )


def _text(shape: Shape | None, many_is: bool = False) -> str:
    if shape is None:
        return "of unknown shape"
    extents = (
        "?" if e is None else f"{e // _SEVERAL} n" if many_is and not e % _SEVERAL else e
        for e in shape
    )
    return f"[{', '.join(map(str, extents))}]"


def _drop_unread(model: onnx.ModelProto) -> None:
    """Drop the targets that were replaced, where no other node reads them."""
    read = {name for node in model.graph.node for name in node.input}
    read |= {value.name for value in (*model.graph.output, *model.graph.input)}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    # Subgraphs read what stands outside of them; there nothing is dropped.
    if any(attr.HasField("g") or attr.graphs for n in model.graph.node for attr in n.attribute):
        return
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _with_open_borders(model: onnx.ModelProto) -> onnx.ModelProto:
    _forget_shapes(model)
    for value in _inputs(model):
        value.type.tensor_type.shape.dim[0].dim_param = AXIS_NAME
    inferred = infer_shapes(model)
    for value in inferred.graph.output:
        value.type.tensor_type.shape.dim[0].dim_param = AXIS_NAME
    return inferred


def _random(rng: np.random.Generator, value: onnx.ValueInfoProto, batch: int) -> Any:
    kind = value.type.tensor_type
    shape = (batch, *(dim.dim_value for dim in kind.shape.dim[1:]))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, 128, shape).astype(dtype)
    # Frames that differ in brightness: a range found over all of them would show.
    return (
        rng.normal(size=shape) * (1 + np.arange(batch).reshape(-1, *[1] * (len(shape) - 1)))
    ).astype(dtype)
