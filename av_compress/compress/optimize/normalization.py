# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The normalisation of pixels, folded into what reads them: preprocess then copies.

With x = (p - m) / s, W x + b = (W / s) (p - m) + b: the division always folds. The mean folds too,
b - W m / s, unless the convolution pads: what it pads with is zero in x, and would be m in p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.fold_affine import FoldAffine
from av_compress.compress.optimize.passes import TOLERANCE, PassReport, cost, report_of
from av_compress.compress.optimize.proof import Proof
from av_compress.errors import ModelError


@dataclass(frozen=True)
class FoldedNormalization:
    """A model that normalises by itself what it can.

    Attributes:
        model: reads (pixel - mean) / std with the two below.
        mean: per channel, what is still to be subtracted; zeros where that is folded.
        std: per channel, what is still to be divided by; ones where that is folded.
        report: what was done and how exact it is.

    """

    model: onnx.ModelProto
    mean: tuple[float, ...]
    std: tuple[float, ...]
    report: PassReport


def fold_normalization(
    model: onnx.ModelProto, name: str, mean: Sequence[float], std: Sequence[float], axis: int
) -> FoldedNormalization:
    """Fold (pixel - mean) / std into the layers that read an input.

    Args:
        model: prepared model that reads normalised pixels; it stays as it is.
        name: of the input.
        mean: per channel.
        std: per channel, not zero.
        axis: of the channels in the input, 1 or 3 of 4.

    Raises:
        ModelError: the model has no float input of this name with 4 axes.

    """
    _check_input(model, name)
    before = cost(model)
    explicit, added = _explicit(model, name, np.asarray(mean), np.asarray(std), axis)
    folded, _ = FoldAffine().run(explicit)
    left = {node.name for node in folded.graph.node} & set(added)
    means, stds = tuple(map(float, mean)), tuple(map(float, std))
    nothing = report_of("fold normalization", before, before, _refusal(model, name))
    if added[1] in left:
        return FoldedNormalization(model, means, stds, nothing)
    zeros, ones = (0.0,) * len(means), (1.0,) * len(stds)
    if added[0] in left:
        said = "std folded; the mean stays: a convolution that reads the input pads with zeros"
        reference, _ = _explicit(model, name, np.zeros(len(means)), np.asarray(std), axis)
        final, left_mean = _without(folded, added[0]), means
    else:
        said, reference, final, left_mean = "mean and std folded", explicit, folded, zeros
    proof = Proof(reference)
    deviation = proof.attempt(final) if proof.possible else None
    if deviation is None or deviation > TOLERANCE:
        return FoldedNormalization(model, means, stds, nothing)
    report = report_of("fold normalization", before, cost(final), said, deviation)
    return FoldedNormalization(final, left_mean, ones, report)


def _check_input(model: onnx.ModelProto, name: str) -> None:
    values = {value.name: value.type.tensor_type for value in model.graph.input}
    kind = values.get(name)
    if kind is None or kind.elem_type != onnx.TensorProto.FLOAT or len(kind.shape.dim) != 4:
        raise ModelError(
            f"no float32 input {name!r} with 4 axes to fold the normalization of; the model has: "
            f"{', '.join(values)}"
        )


def _explicit(
    model: onnx.ModelProto, name: str, mean: np.ndarray, std: np.ndarray, axis: int
) -> tuple[onnx.ModelProto, tuple[str, str]]:
    """Return a model that normalises by two nodes at its front, and their names."""
    editor = Editor(model)
    centred, scaled = editor.new_tensor(f"{name}_centred"), editor.new_tensor(f"{name}_scaled")
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    offset = editor.constant(f"{name}_mean", (-mean).astype(np.float32).reshape(shape))
    factor = editor.constant(f"{name}_std", (1.0 / std).astype(np.float32).reshape(shape))
    editor.redirect(name, scaled)
    editor.prepend("Mul", [centred, factor], scaled)
    editor.prepend("Add", [name, offset], centred)
    names = (f"Add_{centred}", f"Mul_{scaled}")
    return editor.finish(), names


def _without(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    editor = Editor(model)
    node = next(node for node in editor.nodes if node.name == name)
    editor.bypass(node, node.input[0])
    return editor.finish()


def _refusal(model: onnx.ModelProto, name: str) -> str:
    readers = sorted({n.op_type for n in model.graph.node if name in n.input})
    return f"not folded: {name} is read by {', '.join(readers)}"
