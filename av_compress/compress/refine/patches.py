# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the output places of weighted nodes sum over, taken out of their inputs."""

from __future__ import annotations

import numpy as np

from av_compress.compress.graph import int_list, text_attribute
from av_compress.compress.layers import Floats, Layer
from av_compress.tensors import Array


def has_patches(layer: Layer) -> bool:
    """Tell whether `patches` knows this node: all but automatic padding and other than 2-D."""
    if layer.node.op_type != "Conv":
        return True
    spelt = text_attribute(layer.node, "auto_pad", "NOTSET") in {"NOTSET", "VALID"}
    return spelt and layer.weight.ndim == 4


def patches(layer: Layer, values: Array, count: int, rng: np.random.Generator) -> Floats:
    """Take what some output places sum over.

    Args:
        layer: the node, see `has_patches`.
        values: its input tensor, float.
        count: how many places at most, drawn without replacement.
        rng: draws them.

    Returns:
        float64 [places, groups, channels of a group * taps], the last axis as in `Layer.matrix`.

    """
    if layer.node.op_type != "Conv":
        rows = values.reshape(-1, values.shape[-1])
        return rows[_draw(len(rows), count, rng)][:, None, :].astype(np.float64)
    kernel = layer.weight.shape[2:]
    dilations = int_list(layer.node, "dilations") or [1, 1]
    strides = int_list(layer.node, "strides") or [1, 1]
    top, left, bottom, right = int_list(layer.node, "pads") or [0, 0, 0, 0]
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations))
    # A view: only the places that are drawn are copied.
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    batch, _, rows_, columns = windows.shape[:4]
    drawn = _draw(batch * rows_ * columns, count, rng)
    image, row, column = np.unravel_index(drawn, (batch, rows_, columns))
    taken = windows[image, :, row, column]
    return taken.reshape(len(drawn), layer.groups, -1).astype(np.float64)


def _draw(total: int, count: int, rng: np.random.Generator) -> Array:
    if total <= count:
        return np.arange(total)
    return np.sort(rng.choice(total, count, replace=False))
