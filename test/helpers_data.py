# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded frames for tests: pictures that can be told apart, in memory and in bags."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from av_compress.data.bag_writer import BagWriter
from av_compress.errors import FrameError
from av_compress.tasks.base import ImageFrame

START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return noise on a colour that depends on `index`, BGR."""
    rng = np.random.default_rng(index)
    noise = rng.integers(0, 40, (height, width, 3), dtype=np.uint8)
    return noise + np.array([index * 7 % 200, index * 31 % 200, index * 53 % 200], np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def frames(count: int, height: int = 48, width: int = 64) -> list[ImageFrame]:
    return [
        ImageFrame(
            picture(index, height, width), "bgr", START_NS + index * STEP_NS, "camera", f"{index}"
        )
        for index in range(count)
    ]


class MemorySource:
    """Frames in memory; an index in `damaged` cannot be decoded. Counts what is read."""

    def __init__(self, held: Sequence[ImageFrame], damaged: Sequence[int] = ()) -> None:
        self.description = "frames in memory"
        self.reads: list[int] = []
        self._frames = held
        self._damaged = frozenset(damaged)

    def __len__(self) -> int:
        return len(self._frames)

    def key(self, index: int) -> str:
        return self._frames[index].key

    def read(self, index: int) -> ImageFrame:
        self.reads.append(index)
        if index in self._damaged:
            raise FrameError(f"frame {index} is damaged")
        return self._frames[index]

    def close(self) -> None:
        pass


def write_camera_bag(path: Path, held: Sequence[ImageFrame], topic: str = "/camera") -> Path:
    with BagWriter(path) as writer:
        for frame in held:
            writer.write_image(topic, frame)
    return path
