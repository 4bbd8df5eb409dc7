# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Images out of a folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from av_compress.data.images import read_image
from av_compress.errors import DataError
from av_compress.tasks.base import ImageFrame

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


class ImageFolder:
    """The JPEG and PNG files below a folder, sorted by path.

    Hidden files and folders are left out. Frames have no stamp.
    """

    def __init__(self, path: Path) -> None:
        """List the images.

        Raises:
            DataError: there is no such folder, or no image in it.

        """
        self._root = path
        self._names = some_file_names(path, SUFFIXES, "image")
        self.description = f"images in {path.name}"

    def __len__(self) -> int:
        """Count the images."""
        return len(self._names)

    def key(self, index: int) -> str:
        """Return the path of image `index` below the folder, with forward slashes."""
        return self._names[index]

    def read(self, index: int) -> ImageFrame:
        """Read image `index`; see `FrameSource.read`."""
        name = self._names[index]
        return ImageFrame(read_image(self._root / name), key=name)

    def close(self) -> None:
        """Do nothing: no file stays open."""


def some_file_names(root: Path, suffixes: Collection[str], noun: str) -> tuple[str, ...]:
    """List the files below `root`, of which there is one at least; see `file_names`.

    Raises:
        DataError: `root` is not a folder, or no such file is in it.

    """
    names = file_names(root, suffixes, noun)
    if not names:
        raise DataError(
            f"folder {root} holds no {noun}; looked for {', '.join(sorted(suffixes))} "
            "in it and below"
        )
    return names


def file_names(root: Path, suffixes: Collection[str], noun: str) -> tuple[str, ...]:
    """List the files below `root` as sorted relative paths with forward slashes.

    Args:
        root: a folder.
        suffixes: of the files, in lower case, such as `.png`.
        noun: what people call what is in such a file.

    Raises:
        DataError: `root` is not a folder.

    """
    if not root.is_dir():
        raise DataError(f"{noun} folder {root} does not exist" + " or is a file" * root.exists())
    found = (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in suffixes)
    return tuple(
        sorted(
            path.as_posix()
            for path in found
            if not any(part.startswith(".") for part in path.parts)
        )
    )
