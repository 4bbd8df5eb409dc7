# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bags: every image in order, and a named reason for every bag that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import START_NS, STEP_NS, frames, write_camera_bag

from av_compress.data.bag_writer import BagWriter
from av_compress.data.bags import BagClouds, BagImages, bag_topics
from av_compress.data.detection_messages import DetectionMessages
from av_compress.data.detections import detections_to_fields
from av_compress.errors import DataError
from av_compress.tasks.base import Detections2D


@pytest.fixture(params=["drive", "drive.mcap", "drive.db3"], ids=["folder", "mcap", "db3"])
def bag(request, tmp_path: Path) -> Path:
    return write_camera_bag(tmp_path / request.param, frames(6))


def test_every_image_comes_back_in_order(bag: Path):
    source = BagImages(bag)
    assert (len(source), source.topic) == (6, "/camera")
    for index, frame in enumerate(frames(6)):
        read = source.read(index)
        assert np.array_equal(read.pixels, frame.pixels)
        assert read.stamp_ns == START_NS + index * STEP_NS
        assert read.frame_id == "camera"
        assert read.key == f"/camera#{index}"
    source.close()


def test_any_order_of_reading_gives_the_same(bag: Path):
    source, held = BagImages(bag), frames(6)
    for index in (4, 1, 5, 0, 0, 3, 2):
        assert np.array_equal(source.read(index).pixels, held[index].pixels)
    source.close()


def refusal(path: Path, topic: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        BagImages(path, topic)
    return str(caught.value)


def test_a_topic_that_is_not_there_names_those_that_are(bag: Path):
    message = refusal(bag, "/lidar")
    assert "/lidar" in message
    assert "/camera" in message
    assert "sensor_msgs" in message


def test_an_empty_bag(tmp_path: Path):
    with BagWriter(tmp_path / "empty"):
        pass
    assert "empty" in refusal(tmp_path / "empty").lower()


def test_a_topic_of_another_kind(tmp_path: Path):
    result = Detections2D.empty()
    with BagWriter(tmp_path / "bag") as writer:
        DetectionMessages(writer).write_2d("/found", detections_to_fields(result, 5, "camera"), 5)
    assert [str(topic.name) for topic in bag_topics(tmp_path / "bag")] == ["/found"]
    assert "Detection2DArray" in refusal(tmp_path / "bag", "/found")


def test_what_is_no_bag(tmp_path: Path):
    assert "nowhere" in refusal(tmp_path / "nowhere")
    (tmp_path / "letter.mcap").write_text("dear")
    assert "letter.mcap" in refusal(tmp_path / "letter.mcap")
    (tmp_path / "letter.db3").write_text("dear")
    assert "letter.db3" in refusal(tmp_path / "letter.db3")
    (tmp_path / "folder").mkdir()
    assert "folder" in refusal(tmp_path / "folder")


@pytest.mark.parametrize("name", ["drive.mcap", "drive.db3"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_bag_is_an_error_and_not_a_short_drive(
    tmp_path: Path, name: str, share: float
):
    path = write_camera_bag(tmp_path / name, frames(6))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    def read_all() -> None:
        source = BagImages(path)
        for index in range(len(source)):
            source.read(index)

    with pytest.raises(DataError) as caught:
        read_all()
    assert name in str(caught.value)


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / "bag.mcap") as writer:
        writer.write_image("/camera", frames(1)[0])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.shared_data
def test_a_real_bag_of_compressed_images(shared_data: Path):
    source = BagImages(shared_data / "bags" / "coco_ccby_camera_derived")
    assert (len(source), source.topic) == (53, "/camera/image_raw/compressed")
    stamps = [source.read(index).stamp_ns for index in range(0, 53, 10)]
    assert stamps == sorted(stamps)
    source.close()


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["nebula_vlp16_native_packets", "nebula_xt32_native_packets"])
def test_messages_without_a_definition_are_named(shared_data: Path, name: str):
    message = refusal(shared_data / "bags" / name)
    assert "_msgs" in message


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("bag", "topic", "count"),
    [
        ("street_lidar_derived", "/sensing/lidar/points", 5),
        ("vlp16_pointcloud2_derived", "/velodyne_points", 4),
    ],
)
def test_real_bags_of_clouds(shared_data: Path, bag: str, topic: str, count: int):
    source = BagClouds(shared_data / "bags" / bag)
    assert (len(source), source.topic) == (count, topic)
    last, first = source.read(count - 1), source.read(0)
    assert first.stamp_ns < last.stamp_ns
    assert first.points.shape[1] == 4
    assert np.isfinite(first.points).all(axis=1).sum() > 5000
    source.close()


@pytest.mark.shared_data
def test_a_real_bag_of_packets_has_no_cloud(shared_data: Path):
    with pytest.raises(DataError, match="no point cloud topic; it has: /velodyne_packets"):
        BagClouds(shared_data / "bags" / "nebula_vlp16_native_packets")
