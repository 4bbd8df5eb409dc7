# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which objects of a cloud count."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scope:
    """From where ranges are measured, and where objects were not labelled one by one.

    Attributes:
        origin: float64 [2], x and y in the cloud's frame, in metres.
        racks: float64 [k, 7], boxes as in `Detections3D`: racks full of bicycles.

    """

    origin: Doubles = field(default_factory=lambda: np.zeros(2))
    racks: Doubles = field(default_factory=lambda: np.zeros((0, 7)))

    def distances(self, boxes: npt.NDArray[np.floating]) -> Doubles:
        """Return how far the centres of boxes [n, 7] are in bird's eye view, float64 [n]."""
        x, y = (boxes[:, :2].astype(np.float64) - self.origin).T
        return np.asarray(np.hypot(x, y))

    def in_racks(self, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """Tell whose centres lie in a rack, or on its sides: of boxes [n, 7], bool [n]."""
        apart = boxes[:, None, :3].astype(np.float64) - self.racks[None, :, :3]
        cos, sin = np.cos(self.racks[:, 6]), np.sin(self.racks[:, 6])
        along = apart[..., 0] * cos + apart[..., 1] * sin
        across = apart[..., 1] * cos - apart[..., 0] * sin
        offsets = np.abs(np.stack([along, across, apart[..., 2]], axis=-1))
        inside = np.all(offsets <= self.racks[None, :, 3:6] / 2, axis=-1)
        return np.asarray(np.any(inside, axis=1))
