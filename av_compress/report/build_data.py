# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a build found out, as data for its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from av_compress.engines.manifest import Manifest
from av_compress.engines.measurements import Measurements, SpeedRecord
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
class SensitivityRow:
    """What a node costs when it alone is INT8.

    Attributes:
        node: its name.
        macs: its multiply-accumulates for a frame.
        loss: in the unit of its `SearchRows`.
        sqnr_db: signal over quantisation noise at the node, in decibels; None where unknown.
        precision: what the search gave it: `int8`, `fp16` or `fp32`.

    """

    node: str
    macs: int
    loss: float
    sqnr_db: float | None
    precision: str


@dataclass(frozen=True)
class ShareRow:
    """A plan that the search evaluated: its share of arithmetic in INT8 (0..1), what it lost."""

    int8_mac_share: float
    loss: float
    passed: bool


@dataclass(frozen=True)
class SearchRows:
    """What the search for a form's mixed candidate saw, on the calibration frames.

    Attributes:
        sensitivities: one row a node that may be INT8; empty where none were measured.
        unit: of their losses, in words.
        shares: every evaluated plan, in order.
        max_loss: what a plan might lose, in points.

    """

    sensitivities: Sequence[SensitivityRow]
    unit: str
    shares: Sequence[ShareRow]
    max_loss: float


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
        method: what chose the range.

    """

    name: str
    minimum: float
    maximum: float
    low: float
    high: float
    bin_width: float
    counts: npt.NDArray[np.int64]
    method: str


@dataclass(frozen=True)
class BuildReport:
    """Everything a build found out.

    Attributes:
        manifest: what was built, from what, and how it was judged; the artefact of a refused form
            is the candidate that came nearest.
        accuracy: model (`FP32` or an emitter) -> truth (`labels` or `agreement`, the latter
            being FP32's own detections) -> average precision on the gate samples; empty without a
            gate.
        measurements: how long candidates take on the machine that built; None without a gate.
        searches: emitter -> what its search saw; empty where nothing was searched.
        macs: node name -> multiply-accumulates a frame, for every weighted node.
        passes: what the preparation did, in order.
        deviation: largest difference of the prepared model's outputs from the source's, relative
            to the largest output.
        ranges: every observed tensor; the page shows those that INT8 represents worst.

    """

    manifest: Manifest
    accuracy: Mapping[str, Mapping[str, DetectionAP]] = field(default_factory=dict)
    measurements: Measurements | None = None
    searches: Mapping[str, SearchRows] = field(default_factory=dict)
    macs: Mapping[str, int] = field(default_factory=dict)
    passes: Sequence[PassRow] = ()
    deviation: float | None = None
    ranges: Sequence[TensorRange] = ()

    def speed(self, emitter: str, sha256: str | None) -> SpeedRecord | None:
        """Return how a form's file was timed; None where it was not."""
        return None if self.measurements is None else self.measurements.of(emitter, sha256)
