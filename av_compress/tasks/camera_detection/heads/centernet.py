# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""CenterNet-like heads: objects as peaks of a heatmap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from av_compress.tasks.camera_detection.heads.base import (
    Activation,
    Border,
    Candidates,
    Floats,
    HeadConfig,
    activate,
    corners,
    raw_threshold,
)
from av_compress.tasks.camera_detection.heads.family import Family, WholeDecoder
from av_compress.tasks.camera_detection.outputs import Form, Wanted
from av_compress.tensors import Array


@dataclass(frozen=True, kw_only=True)
class CenternetHead(HeadConfig):
    """A heatmap head. Size and offset have one shape: at least one of them must be named.

    Attributes:
        stride: of the maps.
        activation: what turns the heatmap into probabilities.
        size_unit: `cells` of the map or `pixels` of the input.

    """

    type: ClassVar[str] = "centernet"
    stride: int = 4
    activation: Activation = "none"
    size_unit: Literal["cells", "pixels"] = "cells"


def _forms(head: CenternetHead, border: Border) -> tuple[Form, ...]:
    columns, rows = border.cells(head.stride)
    heatmap = Wanted("heatmap", (1, border.classes, rows, columns))
    size = Wanted("size", (1, 2, rows, columns))
    offset = Wanted("offset", (1, 2, rows, columns))
    return (Form("offset", (heatmap, size, offset)), Form("no_offset", (heatmap, size)))


def _decode(
    head: CenternetHead, border: Border, form: str, outputs: Mapping[str, Array], threshold: float
) -> Candidates:
    """Decode peaks: cells of a class that no neighbour among the 8 exceeds.

    Source: Zhou et al., Objects as Points (2019), section 4: centre = cell + offset.
    """
    heatmap = outputs["heatmap"][0]
    labels, rows, columns = np.nonzero(heatmap >= raw_threshold(threshold, head.activation))
    peaks = is_peak(heatmap, labels, rows, columns)
    labels, rows, columns = labels[peaks], rows[peaks], columns[peaks]
    scores = activate(heatmap[labels, rows, columns], head.activation)
    centers = np.stack([columns, rows], axis=1).astype(np.float32)
    if form == "offset":
        centers = centers + outputs["offset"][0][:, rows, columns].T
    sizes = outputs["size"][0][:, rows, columns].T
    if head.size_unit == "cells":
        sizes = sizes * np.float32(head.stride)
    boxes = corners(centers * np.float32(head.stride), sizes)
    over = np.flatnonzero(scores >= threshold)
    return Candidates(boxes, scores, labels.astype(np.int32)).take(over)


def is_peak(
    heatmap: Floats,
    labels: npt.NDArray[np.intp],
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
) -> npt.NDArray[np.bool_]:
    """Tell which cells equal the maximum of their 3x3 surroundings, computed only there."""
    padded = np.pad(heatmap, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    around = np.stack(
        [padded[labels, rows + down, columns + right] for down in range(3) for right in range(3)]
    )
    return np.asarray(around[4] >= np.nanmax(around, axis=0, initial=-np.inf), np.bool_)


# What is a peak, the neighbours say: cells apart do not tell.
FAMILY = Family(
    CenternetHead, _forms, {form: WholeDecoder(_decode) for form in ("offset", "no_offset")}
)
