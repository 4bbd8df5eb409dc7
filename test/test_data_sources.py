# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Folders and COCO files as sources of frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers_data import picture

from av_compress.data.coco import CocoSource
from av_compress.data.sources import open_source
from av_compress.errors import ConfigError, DataError


def coco(folder: Path, **changes) -> Path:
    (folder / "val").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "val" / "b.png"), picture(1))
    content = {
        "images": [{"id": 7, "file_name": "b.png", "width": 64, "height": 48}],
        "categories": [{"id": 9, "name": "car"}, {"id": 2, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 2, 10, 20], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
    }
    content.update(changes)
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_boxes_become_corners(tmp_path: Path):
    source = CocoSource(coco(tmp_path), tmp_path)
    assert list(source.class_names) == ["person", "car"]
    assert np.array_equal(source.read(0).pixels, picture(1))
    labels = source.labels(0)
    np.testing.assert_allclose(labels.boxes, [[1, 2, 11, 22], [0, 0, 5, 5]])
    assert labels.labels.tolist() == [1, 0]
    assert labels.crowd.tolist() == [False, True]


@pytest.mark.parametrize("missing", ["images", "annotations", "categories"])
def test_a_coco_file_without_its_parts(tmp_path: Path, missing: str):
    path = coco(tmp_path)
    content = json.loads(path.read_text())
    del content[missing]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"labels\.json"):
        CocoSource(path, tmp_path)


def test_an_image_that_is_not_there_is_named(tmp_path: Path):
    path = coco(tmp_path)
    (tmp_path / "val" / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png"):
        CocoSource(path, tmp_path).read(0)


def test_a_folder_is_read_in_order_of_names(tmp_path: Path):
    for name, index in (("b.png", 1), ("a.jpg", 2), ("sub/c.png", 3)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), picture(index))
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source({"type": "images", "path": "."}, tmp_path)
    assert [source.key(i) for i in range(len(source))] == ["a.jpg", "b.png", "sub/c.png"]
    assert np.array_equal(source.read(1).pixels, picture(1))


def test_an_empty_folder_and_an_absent_one(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        with pytest.raises(DataError, match=name):
            open_source({"type": "images", "path": name}, tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"type": "video", "path": "x"}, '"video"'),
        ({"type": "images"}, "path"),
        ({"type": "coco", "path": "x"}, "annotations"),
        ({"type": "images", "path": "x", "topic": "/a"}, "topic"),
    ],
)
def test_wrong_configurations_name_the_key(tmp_path: Path, config, words):
    with pytest.raises(ConfigError) as caught:
        open_source(config, tmp_path)
    assert words in str(caught.value)
