# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled images out of a COCO annotation file (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from av_compress.data.folder import SUFFIXES, file_names
from av_compress.data.images import read_image
from av_compress.data.names import first_names
from av_compress.errors import DataError, FrameError
from av_compress.tasks.base import ImageFrame, Labels2D


@dataclass(frozen=True)
class _Image:
    """One entry of `images`, with the name of its file below the image folder."""

    id: int
    name: str
    width: int | None
    height: int | None


class CocoSource:
    """The images of a COCO file in its order, with their boxes.

    Class names are in the order of the category ids. Frames have no stamp.
    """

    class_names: Sequence[str]

    def __init__(self, annotations: Path, images: Path) -> None:
        """Read the annotations and find every image.

        Args:
            annotations: instances json.
            images: folder with the images, in it or anywhere below.

        Raises:
            DataError: a file or key is missing, or a label is not a box; all by name.

        """
        content = _load(annotations)
        with _blame(annotations):
            categories = sorted(content["categories"], key=lambda category: int(category["id"]))
            places = {int(category["id"]): i for i, category in enumerate(categories)}
            self.class_names = tuple(str(category["name"]) for category in categories)
            self._labels = _labels(content["annotations"], places)
            entries = [
                _Image(int(e["id"]), str(e["file_name"]), e.get("width"), e.get("height"))
                for e in content["images"]
            ]
        if not entries:
            raise DataError(f"{annotations} lists no images")
        self._root = images
        self._images = _locate(entries, images)
        self.description = f"coco {annotations.name}"

    def __len__(self) -> int:
        """Count the images."""
        return len(self._images)

    def key(self, index: int) -> str:
        """Return the path of image `index` below the image folder."""
        return self._images[index].name

    def read(self, index: int) -> ImageFrame:
        """Read image `index`; see `FrameSource.read`.

        Raises:
            FrameError: also where the image is not of the size that its labels are for.

        """
        entry = self._images[index]
        path = self._root / entry.name
        frame = ImageFrame(read_image(path), key=entry.name)
        wanted = (entry.width or frame.width, entry.height or frame.height)
        if wanted != (frame.width, frame.height):
            raise FrameError(
                f"{path} has {frame.width} x {frame.height} pixels, "
                f"its labels are for {wanted[0]} x {wanted[1]}"
            )
        return frame

    def labels(self, index: int) -> Labels2D:
        """Return the labels of image `index`."""
        return self._labels.get(self._images[index].id, _EMPTY)

    def close(self) -> None:
        """Do nothing: no file stays open."""


_EMPTY = Labels2D(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, np.bool_))


@contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Turn what parsing a foreign structure raises into a DataError that names the file."""
    try:
        yield
    except KeyError as error:
        raise DataError(f"{path} is not a COCO file: key {error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a COCO file: {error}") from error


def _load(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"annotations {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"annotations {path} are not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a COCO file: it holds no object at its top level")
    return content


def _labels(
    annotations: Iterable[Mapping[str, Any]], places: Mapping[int, int]
) -> dict[int, Labels2D]:
    """Group annotations by image id."""
    grouped: dict[int, list[tuple[list[float], int, bool]]] = defaultdict(list)
    for entry in annotations:
        category = int(entry["category_id"])
        if category not in places:
            raise ValueError(f"annotation {entry.get('id')} has unknown category_id {category}")
        grouped[int(entry["image_id"])].append(
            (_corners(entry), places[category], bool(entry.get("iscrowd", 0)))
        )
    return {
        image: Labels2D(
            np.array([box for box, _, _ in rows], np.float32),
            np.array([label for _, label, _ in rows], np.int32),
            np.array([crowd for _, _, crowd in rows], np.bool_),
        )
        for image, rows in grouped.items()
    }


def _corners(entry: Mapping[str, Any]) -> list[float]:
    box = [float(value) for value in entry["bbox"]]
    if len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) < 0:
        raise ValueError(
            f"annotation {entry.get('id')} has bbox {entry['bbox']}; "
            "x, y, width >= 0 and height >= 0 are needed"
        )
    x, y, width, height = box
    return [x, y, x + width, y + height]


def _locate(entries: Sequence[_Image], root: Path) -> tuple[_Image, ...]:
    """Find every image: at its own path below `root`, or by its name in any folder below."""
    names = file_names(root, SUFFIXES, "image")
    known = set(names)
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_name[PurePosixPath(name).name].append(name)
    found, missing = [], []
    for entry in entries:
        places = [entry.name] if entry.name in known else by_name[PurePosixPath(entry.name).name]
        if len(places) > 1:
            raise DataError(f"image {entry.name} is in several folders: {', '.join(places)}")
        if places:
            found.append(_Image(entry.id, places[0], entry.width, entry.height))
        else:
            missing.append(entry.name)
    if missing:
        raise DataError(
            f"{len(missing)} of {len(entries)} images are not in {root} or below: "
            f"{first_names(missing)}"
        )
    return tuple(found)
