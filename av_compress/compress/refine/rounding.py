# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Rounding of weights in which every weight makes up for the error of those before it.

Rounding to nearest makes each weight's error as small as it can be; what counts is the error of
the outputs, sums over inputs that are correlated. One input's column after the other is rounded,
and the columns left are moved so that the outputs change least, which has a closed form in the
inputs' covariance. The mean of what is left goes into the bias.

Sources: Frantar et al., GPTQ, 2023, after Hassibi and Stork, Optimal Brain Surgeon, 1993; bias
correction after Nagel et al., Data-Free Quantization, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from av_compress.compress.emit.insertion import WeightGrid, with_dead_channels
from av_compress.compress.layers import Floats, Layer, per_output
from av_compress.compress.plan.precision import WeightScales
from av_compress.compress.refine.moments import Moments
from av_compress.tensors import Array

# Whether something holds, of each of many.
Flags: TypeAlias = npt.NDArray[np.bool_]

# Share of the mean variance that is added to every input's: of what samples do not show, little
# is made of.
DAMPING = 0.01
# Shares of a channel's largest weight that are tried as its threshold.
_SHARES = np.linspace(0.7, 1.0, 13)


@dataclass(frozen=True)
class RoundedWeight:
    """Weights that are whole numbers of steps, and the bias that goes with them.

    Attributes:
        weight: as the node stores it. The largest of an output channel (of the tensor, where it
            has one scale) is as many steps as there are levels: whoever quantises by the largest
            magnitude finds the same steps.
        bias_shift: to be added to the bias, float64 [output channels].

    """

    weight: Array
    bias_shift: Floats

    def multiplied(self, node: onnx.NodeProto, factors: Array) -> RoundedWeight:
        """Return these for outputs that are multiplied, as many steps of scales multiplied too.

        With one scale for the tensor they are no steps until this is undone.

        In float64, so that undoing it gives the same float32, and with that the same scale, to
        the last bit: scales in FP16 are rounded up, and the next one is far.

        Args:
            node: whose weights they are.
            factors: positive, one per output channel.

        """
        weight = self.weight.astype(np.float64) * per_output(node, self.weight, factors)
        return RoundedWeight(weight, self.bias_shift * factors)


def round_weight(layer: Layer, moments: Moments, grid: WeightGrid) -> RoundedWeight:
    """Round a node's weights.

    Args:
        layer: the node.
        moments: of what its outputs sum over.
        grid: what the form can store; 127 levels for INT8, 63 for a reduced range.

    """
    matrix = layer.matrix()
    rounded = np.empty_like(matrix)
    scales, ends = _scales(matrix, moments, grid), _ends(matrix, grid)
    for group, (weights, covariance) in enumerate(zip(matrix, moments.covariance)):
        rounded[group] = compensated(weights, covariance, scales[group], grid.levels, ends[group])
    shift = np.einsum("gok,gk->go", matrix - rounded, moments.mean)
    return RoundedWeight(layer.stored(rounded), shift.reshape(-1))


def _scales(matrix: Floats, moments: Moments, grid: WeightGrid) -> Floats:
    """Choose the scales of every group, and round them as the form does: all at once.

    What the form can store is judged over the whole weight. Judged by itself, a group could be
    rounded to other scales than it is stored with, and so be rounded twice.

    Args:
        matrix: [groups, outputs, K].
        moments: of what the outputs sum over.
        grid: what the form can store.

    Returns:
        [groups, outputs].

    """
    variances = np.stack([np.diag(covariance) for covariance in moments.covariance])
    if grid.scales is WeightScales.TENSOR:
        # As if all weights were those of one channel.
        counted = np.broadcast_to(variances[:, None, :], matrix.shape).reshape(-1)
        one = channel_scales(matrix.reshape(1, -1), counted, grid.levels)
        chosen = np.broadcast_to(one, matrix.shape[:2])
    else:
        pairs = zip(matrix, variances)
        chosen = np.stack([channel_scales(w, counted, grid.levels) for w, counted in pairs])
    live = np.abs(matrix).max(axis=2) > 0
    scales = with_dead_channels(np.where(live, chosen, 0.0).reshape(-1))
    stored = np.asarray(grid.snap(scales.astype(np.float32)), np.float64)
    return np.asarray(stored.reshape(live.shape))


def _ends(matrix: Floats, grid: WeightGrid) -> Flags:
    """Tell whose largest weight has to reach the end of the range, for its scale to be found.

    Args:
        matrix: [groups, outputs, K].
        grid: what the form can store.

    Returns:
        [groups, outputs].

    """
    largest = np.abs(matrix).max(axis=2)
    if grid.scales is WeightScales.TENSOR:
        return np.asarray(largest == largest.max())
    return np.ones(largest.shape, np.bool_)


def channel_scales(weights: Floats, variances: Floats, levels: int) -> Floats:
    """Choose each output channel's scale by its squared rounding error.

    Args:
        weights: [outputs, K].
        variances: of the K inputs, how much an error in their weight counts.
        levels: largest number of steps.

    """
    largest = np.maximum(np.abs(weights).max(axis=1), np.finfo(np.float32).tiny * levels)
    least = np.full(len(weights), np.inf)
    best = largest / levels
    counted = variances + DAMPING * variances.mean()
    for share in _SHARES:
        scale = largest * share / levels
        error = ((_nearest(weights, scale[:, None], levels) - weights) ** 2) @ counted
        better = error < least
        least, best = np.where(better, error, least), np.where(better, scale, best)
    return np.asarray(best)


def compensated(
    weights: Floats, covariance: Floats, scales: Floats, levels: int, ends: Flags
) -> Floats:
    """Round weights column by column, the later ones making up for the earlier ones' errors.

    Args:
        weights: [outputs, K].
        covariance: of the inputs, [K, K], symmetric and positive semi-definite.
        scales: [outputs].
        levels: largest number of steps.
        ends: of which outputs the largest weight is clipped or raised to the end of the range,
            [outputs].

    Returns:
        [outputs, K], multiples of the scales.

    """
    # Inputs with the largest variance first: their errors are the ones that others can mend.
    order = np.argsort(-np.diag(covariance), kind="stable")
    damped = covariance[np.ix_(order, order)].copy()
    spread = float(np.diag(damped).mean())
    damped[np.diag_indices_from(damped)] += DAMPING * spread if spread > 0 else 1.0
    # Row i of the upper factor holds how column i's error is spread over those after it.
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    left = weights[:, order].copy()
    result = np.empty_like(left)
    largest = np.where(ends, np.abs(left).argmax(axis=1), -1)
    for i in range(left.shape[1]):
        at_end = np.sign(left[:, i]) * scales * levels
        nearest = _nearest(left[:, i], scales, levels)
        result[:, i] = np.where(largest == i, at_end, nearest)
        error = (left[:, i] - result[:, i]) / upper[i, i]
        left[:, i + 1 :] -= np.outer(error, upper[i, i + 1 :])
    return np.asarray(result[:, np.argsort(order, kind="stable")])


def _nearest(values: Floats, scales: Floats, levels: int) -> Floats:
    return np.asarray(np.clip(np.rint(values / scales), -levels, levels) * scales)
