# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Where KITTI's LiDAR and its left colour camera stand, and boxes and points between the two.

Source: readme of the KITTI object development kit, and Geiger et al., Vision meets robotics: the
KITTI dataset, 2013. The camera's axes are x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from av_compress.errors import DataError

Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.floating]

# Nearer corners of a box are beside or behind the lens: where they are in the image says nothing.
_NEAREST_M = 0.1
_SHAPES = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_velo_to_cam": (3, 4)}


@dataclass(frozen=True)
class Calibration:
    """A frame's calibration.

    Attributes:
        projection: float64 [3, 4], P2: rectified camera coordinates to pixels.
        camera_of_lidar: float64 [4, 4], R0_rect after Tr_velo_to_cam: LiDAR to rectified camera.

    """

    projection: Doubles
    camera_of_lidar: Doubles

    def to_image(self, points: Numbers) -> tuple[Doubles, Doubles]:
        """Project points [n, 3] of the LiDAR.

        Returns:
            pixels float64 [n, 2], x and y; and depths float64 [n] in metres, with which pixels
            mean something where they are positive.

        """
        matrix = self.projection @ self.camera_of_lidar
        seen = points.astype(np.float64) @ matrix[:, :3].T + matrix[:, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            return seen[:, :2] / seen[:, 2:], seen[:, 2]

    def in_view(self, points: Numbers, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Tell which points [n, 3] of the LiDAR an image of (width, height) pixels shows."""
        pixels, depths = self.to_image(points)
        with np.errstate(invalid="ignore"):
            inside = ((pixels >= 0) & (pixels < size)).all(axis=1)
        return np.asarray(inside & (depths > 0))

    def heights(self, boxes: Numbers, size: tuple[int, int]) -> Doubles:
        """Return how high boxes stand in the image.

        Args:
            boxes: [n, 7] of the LiDAR; see `Detections3D`.
            size: width and height of the image in pixels.

        Returns:
            float64 [n] in pixels, of the part within the image; 0 where it shows none.

        """
        # Compiled by numba, which reading frames does without.
        from av_compress.tasks.boxes3d import corners

        flat = np.repeat(corners(boxes), 2, axis=1)
        half = boxes[:, 5:6] / 2
        z = boxes[:, 2:3] + np.concatenate([-half, half] * 4, axis=1)
        points = np.concatenate([flat, z[..., None]], axis=2)
        pixels, depths = self.to_image(points.reshape(-1, 3))
        limits = np.array(size) - 1.0
        pixels = np.clip(np.nan_to_num(pixels), 0.0, limits).reshape(-1, 8, 2)
        ahead = (depths > _NEAREST_M).reshape(-1, 8, 1)
        low = np.where(ahead, pixels, np.inf).min(axis=1)
        high = np.where(ahead, pixels, -np.inf).max(axis=1)
        extents = np.maximum(high - low, 0.0)
        return np.where(extents[:, 0] > 0, extents[:, 1], 0.0)

    def boxes_to_lidar(self, bottoms: Numbers, sizes: Numbers, rotations: Numbers) -> Doubles:
        """Bring boxes of label files into the LiDAR's frame.

        Args:
            bottoms: [n, 3], centres of the bottom faces, in metres of the rectified camera.
            sizes: [n, 3], height, width and length in metres.
            rotations: [n], about the camera's y axis, in radians; 0 heads along its x axis.

        Returns:
            float64 [n, 7]; see `Detections3D`. The slight tilt between the two sensors is lost:
            these boxes stand upright in the LiDAR's frame.

        """
        lidar_of_camera = np.linalg.inv(self.camera_of_lidar)
        turn, origin = lidar_of_camera[:3, :3], lidar_of_camera[:3, 3]
        up = np.zeros((len(bottoms), 3))
        up[:, 1] = -sizes[:, 0] / 2
        centers = (bottoms + up) @ turn.T + origin
        heading = np.stack([np.cos(rotations), np.zeros(len(rotations)), -np.sin(rotations)], 1)
        ahead = heading @ turn.T
        yaws = np.arctan2(ahead[:, 1], ahead[:, 0])
        return np.column_stack([centers, sizes[:, ::-1], yaws])


def read_calibration(path: Path) -> Calibration:
    """Read a file of `calib`.

    Raises:
        DataError: the file cannot be read, or a matrix in it is missing or damaged.

    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"calibration {path} cannot be read: {reason}") from error
    texts = dict(line.split(":", 1) for line in lines if ":" in line)
    if missing := [name for name in _SHAPES if name not in texts]:
        raise DataError(f"calibration {path} lacks {', '.join(missing)}")
    found = {name: _matrix(texts[name], shape, name, path) for name, shape in _SHAPES.items()}
    camera_of_lidar = np.eye(4)
    camera_of_lidar[:3] = found["R0_rect"] @ found["Tr_velo_to_cam"]
    if abs(np.linalg.det(camera_of_lidar[:3, :3])) < 0.5:
        raise DataError(f"calibration {path}: R0_rect and Tr_velo_to_cam are no rotations")
    return Calibration(found["P2"], camera_of_lidar)


def _matrix(text: str, shape: tuple[int, int], name: str, path: Path) -> Any:
    wanted = shape[0] * shape[1]
    try:
        values = [float(value) for value in text.split()]
    except ValueError as error:
        raise DataError(f"calibration {path}: {name} holds {error}") from error
    if len(values) != wanted or not np.isfinite(values).all():
        raise DataError(
            f"calibration {path}: {name} is not {wanted} finite numbers, but {text.strip()!r}"
        )
    return np.array(values).reshape(shape)
