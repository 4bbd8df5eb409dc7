# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Images out of a folder."""

from __future__ import annotations

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
        self._names = image_names(path)
        if not self._names:
            raise DataError(
                f"folder {path} holds no image; looked for {', '.join(sorted(SUFFIXES))} "
                "in it and below"
            )
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


def image_names(root: Path) -> tuple[str, ...]:
    """List the images below `root` as sorted relative paths with forward slashes.

    Raises:
        DataError: `root` is not a folder.

    """
    if not root.is_dir():
        raise DataError(f"image folder {root} does not exist" + " or is a file" * root.exists())
    found = (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    return tuple(
        sorted(
            path.as_posix()
            for path in found
            if not any(part.startswith(".") for part in path.parts)
        )
    )
