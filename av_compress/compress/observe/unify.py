# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""One range for what a concatenation joins and makes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

Ranges = Mapping[str, tuple[float, float]]


def unify_concats(model: onnx.ModelProto, ranges: Ranges) -> dict[str, tuple[float, float]]:
    """Give a concatenation's quantised inputs and its output one range, the widest.

    TensorRT moves the quantiser behind a concatenation in front of it. Where an input is quantised
    for another reader too, with a scale of its own, it would be quantised twice; with one scale it
    is once, for fewer steps where the inputs differ in size.

    Args:
        model: FP32 model.
        ranges: tensor name -> lowest and highest value represented.

    Returns:
        the ranges, those of joined tensors widened; concatenations that share a tensor share one
        range.

    """
    found = dict(ranges)
    groups: list[set[str]] = []
    for node in model.graph.node:
        if node.op_type != "Concat" or node.output[0] not in ranges:
            continue
        group = {name for name in (*node.input, *node.output) if name in ranges}
        for other in [g for g in groups if g & group]:
            group |= other
            groups.remove(other)
        groups.append(group)
    for group in groups:
        widest = min(found[n][0] for n in group), max(found[n][1] for n in group)
        found |= dict.fromkeys(group, widest)
    return found
