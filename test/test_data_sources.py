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
from helpers_kitti import write_frame

from av_compress.data.bag_writer import BagWriter
from av_compress.data.coco import CocoSource
from av_compress.data.content import content_sha256, thumbnail
from av_compress.data.points import CHANNELS
from av_compress.data.sources import open_source
from av_compress.errors import ConfigError, DataError, FrameError
from av_compress.tasks.base import IMAGES, FrameNeeds, ImageFrame, PointCloud


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
    source = open_source({"type": "images", "path": "."}, tmp_path, IMAGES)
    assert [source.key(i) for i in range(len(source))] == ["a.jpg", "b.png", "sub/c.png"]
    assert np.array_equal(source.read(1).pixels, picture(1))


def test_an_empty_folder_and_an_absent_one(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        with pytest.raises(DataError, match=name):
            open_source({"type": "images", "path": name}, tmp_path, IMAGES)


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
        open_source(config, tmp_path, IMAGES)
    assert words in str(caught.value)


CLOUDS = FrameNeeds(PointCloud, ("x", "y", "z", "intensity"))


def points(count: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, columns)).astype(np.float32)


def test_a_folder_of_clouds_as_kitti_and_as_nuscenes_write_them(tmp_path: Path):
    held = points(7, 5)
    for name in ("b.bin", "sub/a.bin", ".hidden.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        held.tofile(tmp_path / name)
    columns = ["x", "y", "z", "intensity", "ring"]
    config = {"type": "clouds", "path": ".", "columns": columns}
    source = open_source(config, tmp_path, CLOUDS)
    assert [source.key(i) for i in range(len(source))] == ["b.bin", "sub/a.bin"]
    np.testing.assert_array_equal(source.read(0).points, held[:, :4])
    # The ring is the sixth column of a cloud; the sweep is told to be of one time.
    wide = open_source(config, tmp_path, FrameNeeds(PointCloud, CHANNELS)).read(1).points
    np.testing.assert_array_equal(wide, np.c_[held[:, :4], np.zeros(7), held[:, 4]])


def test_clouds_whose_columns_do_not_fit(tmp_path: Path):
    points(7, 5).tofile(tmp_path / "a.bin")
    with pytest.raises(FrameError, match=r"a\.bin is damaged: 140 bytes .* 16 bytes"):
        open_source({"type": "clouds", "path": "."}, tmp_path, CLOUDS).read(0)
    config = {"type": "clouds", "path": ".", "columns": ["x", "y", "z", "other", "other"]}
    with pytest.raises(DataError, match="wants intensity; the source's columns are x, y, z"):
        open_source(config, tmp_path, CLOUDS)


def test_kitti_is_divided_by_its_lists_of_names(tmp_path: Path):
    for name in ("000001", "000002", "000003"):
        write_frame(tmp_path / "training", name, points(5, 4))
    (tmp_path / "val.txt").write_text("000003\n000001\n")
    config = {"type": "kitti", "path": "training", "split": "val.txt", "view": "camera"}
    source = open_source(config, tmp_path, CLOUDS)
    assert [source.key(i) for i in range(len(source))] == ["000001", "000003"]
    for text, words in (("000009", "000009"), ("", "no cloud"), ("000001 000001", "twice")):
        (tmp_path / "val.txt").write_text(text)
        with pytest.raises(DataError, match=words):
            open_source(config, tmp_path, CLOUDS)
    (tmp_path / "val.txt").unlink()
    with pytest.raises(DataError, match=r"split .*val\.txt cannot be read"):
        open_source(config, tmp_path, CLOUDS)


def test_the_task_decides_which_topic_of_a_bag_is_read(tmp_path: Path):
    kind = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("i", "u1")])
    cloud = np.zeros(5, kind)
    cloud["x"], cloud["i"] = np.arange(5), 200
    with BagWriter(tmp_path / "both") as writer:
        writer.write_image("/camera", ImageFrame(picture(1), stamp_ns=10**9))
        writer.write_cloud("/points", cloud, 2 * 10**9, "lidar")
    config = {"type": "bag", "path": "both"}
    images = open_source(config, tmp_path, IMAGES)
    with_fields = {**config, "fields": {"intensity": ["intensity", "i"]}}
    clouds = open_source(with_fields, tmp_path, CLOUDS)
    assert isinstance(images.read(0), ImageFrame)
    read = clouds.read(0)
    np.testing.assert_array_equal(read.points[:, 0], np.arange(5))
    np.testing.assert_array_equal(read.points[:, 3], 200)
    assert (read.stamp_ns, read.frame_id, read.key) == (2 * 10**9, "lidar", "/points#0")
    with pytest.raises(
        DataError, match=r"/camera of bag .* is no point cloud; allowed: sensor_ms"
    ):
        open_source({**config, "topic": "/camera"}, tmp_path, CLOUDS)
    with pytest.raises(ConfigError, match=r"source\.fields"):
        open_source(with_fields, tmp_path, IMAGES)
    with pytest.raises(FrameError, match=r"/points#0: .* lacks the fields intensity"):
        open_source(config, tmp_path, CLOUDS).read(0)
    images.close()
    clouds.close()


@pytest.mark.parametrize(
    ("kind", "needs", "words"),
    [
        ("kitti", IMAGES, "has point clouds, the task takes images; allowed: images, coco, bag"),
        (
            "images",
            CLOUDS,
            "has images, the task takes point clouds; allowed: bag, kitti, nuscenes, clouds",
        ),
    ],
)
def test_a_source_of_the_other_kind_is_refused(tmp_path: Path, kind, needs, words):
    with pytest.raises(ConfigError, match=words):
        open_source({"type": kind, "path": "."}, tmp_path, needs)


def test_clouds_are_told_apart_by_where_their_points_are():
    near = PointCloud(np.array([[5, 5, 0, 1]] * 40, np.float32), stamp_ns=1, key="a")
    far = PointCloud(np.array([[35, -35, 0, 1]] * 40, np.float32))
    # By hand: 40 of 40 points in one cell of 10 m, which is the logarithm's whole.
    want = np.zeros((8, 8))
    want[4, 4] = 1.0
    np.testing.assert_allclose(thumbnail(near), want.ravel())
    assert thumbnail(far).reshape(8, 8)[7, 0] == 1.0
    # Points that lie nowhere are not counted, nor those far away.
    odd = PointCloud(np.array([[np.nan, 0, 0, 1], [500, 0, 0, 1]], np.float32))
    assert not thumbnail(odd).any()
    assert content_sha256(near) == content_sha256(PointCloud(near.points.copy()))
    hashes = {content_sha256(cloud) for cloud in (near, far, odd)}
    hashes.add(content_sha256(PointCloud(near.points.reshape(32, 5))))
    assert len(hashes) == 4
