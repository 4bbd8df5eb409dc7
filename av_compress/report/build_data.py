# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a build found out, as data for its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from av_compress.engines.manifest import Manifest
from av_compress.metrics.average_precision import DetectionAP

# What the FP32 model is called among the models of a report; the others are named by emitter.
FP32 = "fp32"


@dataclass(frozen=True)
class PassRow:
    """What one pass of the preparation did.

    Attributes:
        name: of the pass.
        nodes_before: number of nodes that it found.
        nodes_after: number of nodes that it left.
        detail: in words.
        macs: multiply-accumulates a frame before and after it; None where they are not told.
        deviation: how far it moved the outputs, relative to the largest; None: not measured.

    """

    name: str
    nodes_before: int
    nodes_after: int
    detail: str
    macs: tuple[int, int] | None = None
    deviation: float | None = None


@dataclass(frozen=True)
class Execution:
    """How long a model takes for a frame, without preprocess and postprocess.

    Attributes:
        model: `FP32` or an emitter.
        engine: backend, provider and threads in a few words.
        median_ms: over the gate samples, in milliseconds.

    """

    model: str
    engine: str
    median_ms: float


@dataclass(frozen=True)
class TensorRange:
    """What calibration saw of an activation, and what INT8 represents of it.

    Attributes:
        name: tensor name.
        minimum: smallest value seen.
        maximum: largest value seen.
        low: smallest value represented.
        high: largest value represented.
        bin_width: width of a histogram bin.
        counts: int64 [2 n + 1]; the middle bin holds |x| < bin_width, the one after it
            bin_width <= x < 2 bin_width.

    """

    name: str
    minimum: float
    maximum: float
    low: float
    high: float
    bin_width: float
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class BuildReport:
    """Everything a build found out.

    Attributes:
        manifest: what was built, from what, and how it was judged.
        accuracy: model (`FP32` or an emitter) -> truth (`labels` or `agreement`, the latter
            being FP32's own detections) -> average precision on the gate samples; empty without a
            gate.
        execution: how long models take on the machine that built; empty without a gate.
        macs: node name -> multiply-accumulates a frame, for every weighted node.
        passes: what the preparation did, in order.
        deviation: largest difference of the prepared model's outputs from the source's, relative
            to the largest output.
        ranges: every observed tensor; the page shows those that INT8 represents worst.

    """

    manifest: Manifest
    accuracy: Mapping[str, Mapping[str, DetectionAP]] = field(default_factory=dict)
    execution: Sequence[Execution] = ()
    macs: Mapping[str, int] = field(default_factory=dict)
    passes: Sequence[PassRow] = ()
    deviation: float | None = None
    ranges: Sequence[TensorRange] = ()
