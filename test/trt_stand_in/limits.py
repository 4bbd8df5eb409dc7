# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What one version's parser takes.

Of TensorRT for RTX this was tried. Of `tensorrt` it is what its documents and its parser's
public sources say: 8.6 reads opset 17, wants a zero point, and takes scales for FP32;
JetPack 6's 10.x reads opset 20; later ones and RTX read newer opsets with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass

from trt_stand_in.network import Network
from trt_stand_in.world import World


@dataclass(frozen=True)
class Limits:
    """What one version's parser takes.

    Attributes:
        opset: newest; None: newer ones are read as what is known.
        types: TensorRT's names of tensors' types.
        zero_point: whether a pair must have one.
        scales: types of scales.
        strongly_typed: whether operands' types must be equal.
        half_vectors: whether an INT8 convolution's weight may have a vector of one FP16 scale: the
            compiler of TensorRT for RTX 1.7 fails on it.
        narrow: whether INT64 and DOUBLE become INT32 and FLOAT.

    """

    opset: int | None
    types: frozenset[str]
    zero_point: bool
    scales: frozenset[str]
    strongly_typed: bool
    half_vectors: bool
    narrow: bool


def limits_of(world: World, network: Network) -> Limits:
    """Return a version's limits."""
    number = world.facts.number
    old = number[0] == 8 and not world.facts.rtx
    ten = number[0] == 10 and number[1] < 13
    return Limits(
        opset=17 if old else 20 if ten else None,
        types=frozenset(world.facts.enums["DataType"]),
        zero_point=old,
        scales=frozenset({"FLOAT"} if old else {"FLOAT", "HALF", "BF16"}),
        strongly_typed=network.strongly_typed,
        half_vectors=not world.facts.rtx,
        narrow="INT64" not in world.facts.enums["DataType"],
    )
