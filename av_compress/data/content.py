# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a frame shows, of whatever kind it is: as a hash, and as a few numbers to compare."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import singledispatch
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from av_compress.fileio import canonical_json, sha256_bytes
from av_compress.tasks.base import ImageFrame, PointCloud

Floats = npt.NDArray[np.float64]

_CELLS = 8
# Metres from the sensor to the edge of a cloud's thumbnail: a cell of it is 10 m wide.
_REACH_M = 40.0


@singledispatch
def content_sha256(frame: Any) -> str:
    """Return the hex SHA-256 of what `frame` shows, whatever its stamp and name.

    Of an image its size and its pixels as BGR, of a cloud the shape and the bytes of its points.
    """
    raise TypeError(f"{type(frame).__name__} is no frame")


@content_sha256.register
def _(frame: ImageFrame) -> str:
    pixels = frame.pixels if frame.color == "bgr" else frame.pixels[..., ::-1]
    digest = hashlib.sha256(f"{frame.width}x{frame.height}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


@content_sha256.register
def _(frame: PointCloud) -> str:
    points = np.ascontiguousarray(frame.points, "<f4")
    digest = hashlib.sha256(f"points {points.shape}:".encode())
    digest.update(points.tobytes())
    return digest.hexdigest()


def labels_sha256(labels: Sequence[Any] | None) -> str | None:
    """Return a hash of the true objects of frames, of any kind; None where none are known."""
    if labels is None:
        return None
    return sha256_bytes(canonical_json([_plain(asdict(one)) for one in labels]).encode())


def _plain(value: Any) -> Any:
    """Return fields of labels as JSON: arrays by their bytes, as they may hold no numbers."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if value is None:
        return None
    return [value.dtype.str, list(value.shape), value.tobytes().hex()]


@singledispatch
def thumbnail(frame: Any) -> Floats:
    """Return [64] numbers in 0..1 that lie the farther apart the less alike two frames are.

    Of an image the greys of 8 x 8 pixels. Of a cloud how many points lie in each of 8 x 8 cells of
    10 m around the sensor, as logarithms: a wall ten metres away has a hundred times the points of
    one that is far.
    """
    raise TypeError(f"{type(frame).__name__} is no frame")


@thumbnail.register
def _(frame: ImageFrame) -> Floats:
    small = cv2.resize(frame.pixels, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    # A plain mean over the channels: bgr and rgb give the same.
    return np.asarray(small.mean(axis=2, dtype=np.float64).ravel() / 255.0, np.float64)


@thumbnail.register
def _(frame: PointCloud) -> Floats:
    limits = (-_REACH_M, _REACH_M)
    places = frame.points[np.isfinite(frame.points[:, :2]).all(axis=1), :2].astype(np.float64)
    counts, _, _ = np.histogram2d(places[:, 0], places[:, 1], _CELLS, (limits, limits))
    most = np.log1p(max(1, len(places)))
    return np.asarray(np.log1p(counts).ravel() / most, np.float64)
