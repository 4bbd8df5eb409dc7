# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Several sources as one: every frame of each, told apart, labels where all have them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers_data import MemorySource, frames, picture

from av_compress.data.base import LabelledSource
from av_compress.data.coco import CocoSource
from av_compress.data.combined import CombinedSource, combine


def labelled(folder: Path, classes: tuple[str, ...], images: int) -> CocoSource:
    folder.mkdir()
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(images)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 0, "bbox": [i, 2, 3, 4], "area": 12}
            for i in range(images)
        ],
    }
    (folder / "a.json").write_text(json.dumps(content))
    for i in range(images):
        cv2.imwrite(str(folder / f"{i}.png"), picture(i))
    return CocoSource(folder / "a.json", folder)


def test_every_frame_of_each_in_order():
    held = frames(5, 16, 16)
    source = CombinedSource([MemorySource(held[:2]), MemorySource(held[2:])])
    assert len(source) == 5
    for index, frame in enumerate(held):
        read = source.read(index)
        assert np.array_equal(read.pixels, frame.pixels)
        assert (read.stamp_ns, read.frame_id) == (frame.stamp_ns, frame.frame_id)
        assert read.key == source.key(index)
    assert len({source.key(index) for index in range(5)}) == 5
    # Sources of one name get numbers.
    assert source.key(0) == "frames in memory (1): 0"
    assert source.key(2) == "frames in memory (2): 2"
    assert source.description == "frames in memory; frames in memory"
    with pytest.raises(IndexError):
        source.read(5)


def test_labels_follow_their_frames(tmp_path: Path):
    parts = [labelled(tmp_path / name, ("car", "bus"), 2) for name in ("a", "b")]
    source = combine(parts)
    assert isinstance(source, LabelledSource)
    assert tuple(source.class_names) == ("car", "bus")
    for index in range(4):
        expected = parts[index // 2].labels(index % 2)
        assert np.array_equal(source.labels(index).boxes, expected.boxes)


def test_labels_of_other_classes_or_none_are_no_labels(tmp_path: Path):
    first = labelled(tmp_path / "a", ("car",), 1)
    second = labelled(tmp_path / "b", ("tram",), 1)
    assert not isinstance(combine([first, second]), LabelledSource)
    assert not isinstance(combine([first, MemorySource(frames(1))]), LabelledSource)


def test_a_single_source_stays_itself():
    source = MemorySource(frames(1))
    assert combine([source]) is source
