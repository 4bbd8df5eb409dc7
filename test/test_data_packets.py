# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bags of a driver's packets: every way in says what they are and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers_data import START_NS, frames
from helpers_lidar_node import write_cell_bundle

from av_compress.cli.main import main
from av_compress.data.bag_writer import BagWriter
from av_compress.data.bags import BagClouds, BagImages
from av_compress.data.ros_types import make_typestore, rosbags
from av_compress.data.sources import open_source
from av_compress.errors import DataError
from av_compress.tasks.lidar_detection import LidarDetection

REAL = {
    "nebula_vlp16_native_packets": ("/velodyne_packets", "velodyne_msgs/VelodyneScan"),
    "nebula_xt32_native_packets": ("/pandar_packets", "pandar_msgs/PandarScan"),
}
# Type -> what its driver's points are called.
POINTS = {
    "velodyne_msgs/VelodyneScan": "/velodyne_points",
    "pandar_msgs/PandarScan": "/pandar_points",
    "ouster_sensor_msgs/PacketMsg": "/ouster/points",
    "livox_ros_driver2/CustomMsg": "/livox/lidar",
}


def packet_bag(path: Path, kind: str, topic: str = "/packets") -> Path:
    """Write three messages of a type that has no definition where the bag is read."""
    store, name = make_typestore(), kind.replace("/", "/msg/")
    store.register(rosbags("typesys").get_types_from_msg("uint8[] data", name))
    rosbag2 = rosbags("rosbag2")
    with rosbag2.Writer(path, version=8, storage_plugin=rosbag2.StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection(topic, name, typestore=store)
        for index in range(3):
            writer.write(connection, START_NS + index, bytes([0, 1, 0, 0, 1, 0, 0, 0, index]))
    return path


def assert_helpful(text: str, topic: str, kind: str, bag: Path) -> None:
    assert f"{topic}" in text
    assert kind in text
    assert f"messages of type {kind} are a driver's packets" in text
    assert f"ros2 bag play {bag}" in text
    assert f"ros2 bag record {POINTS[kind]}" in text
    assert len(text.strip().splitlines()) == 1


@pytest.mark.parametrize("kind", POINTS)
@pytest.mark.parametrize("topic", [None, "/packets"])
def test_packets_are_told_with_what_to_do(tmp_path: Path, kind: str, topic: str | None):
    bag = packet_bag(tmp_path / "bag", kind)
    with pytest.raises(DataError) as caught:
        BagClouds(bag, topic)
    assert_helpful(str(caught.value), "/packets", kind, bag)


def test_a_recipes_source_says_the_same(tmp_path: Path):
    bag = packet_bag(tmp_path / "bag", "pandar_msgs/PandarScan")
    task = LidarDetection.from_config(
        yaml.safe_load((Path(__file__).parent / "data/tasks/tiny_pillars.yaml").read_text())
    )
    with pytest.raises(DataError) as caught:
        open_source({"type": "bag", "path": "bag"}, tmp_path, task.frame_needs)
    assert_helpful(str(caught.value), "/packets", "pandar_msgs/PandarScan", bag)


def test_only_clouds_are_made_of_packets(tmp_path: Path):
    bag = packet_bag(tmp_path / "bag", "velodyne_msgs/VelodyneScan")
    with pytest.raises(DataError, match="no image topic; it has: /packets") as caught:
        BagImages(bag)
    assert "driver" not in str(caught.value)


def test_other_types_are_no_packets(tmp_path: Path):
    with BagWriter(tmp_path / "camera") as writer:
        writer.write_image("/camera", frames(1)[0])
    for topic in (None, "/camera"):
        with pytest.raises(DataError) as caught:
            BagClouds(tmp_path / "camera", topic)
        assert "driver" not in str(caught.value)
        assert "/camera (sensor_msgs/Image, 1 messages)" in str(caught.value)
    unknown = packet_bag(tmp_path / "unknown", "our_msgs/Blob")
    with pytest.raises(DataError, match=r"it has: /packets \(our_msgs/Blob, 3 messages\)$"):
        BagClouds(unknown)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_cell_bundle(tmp_path_factory.mktemp("packets") / "bundle")


def refusal(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main([*arguments]) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("named", [False, True])
def test_replay_says_it_in_one_line(tmp_path: Path, bundle: Path, capsys, named: bool):
    bag = packet_bag(tmp_path / "bag", "velodyne_msgs/VelodyneScan")
    topic = ["--topic", "/packets"] if named else []
    text = refusal(capsys, "replay", str(bag), "--bundle", str(bundle), *topic)
    assert text.startswith("av-compress replay: error: ")
    assert_helpful(text, "/packets", "velodyne_msgs/VelodyneScan", bag)


@pytest.mark.shared_data
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("name", REAL)
def test_recorded_packets(shared_data: Path, bundle: Path, capsys, name: str, named: bool):
    (topic, kind), bag = REAL[name], shared_data / "bags" / name
    if not bag.is_dir():
        pytest.skip(f"the bag is absent: {bag}")
    wanted = ["--topic", topic] if named else []
    text = refusal(capsys, "replay", str(bag), "--bundle", str(bundle), *wanted)
    assert_helpful(text, topic, kind, bag)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", REAL)
def test_a_build_on_recorded_packets(shared_data: Path, tmp_path: Path, capsys, name: str):
    (topic, kind), bag = REAL[name], shared_data / "bags" / name
    if not bag.is_dir():
        pytest.skip(f"the bag is absent: {bag}")
    task = Path(__file__).parent / "data/tasks/tiny_pillars.yaml"
    recipe = {
        "model": str(shared_data / "lidar/tiny_e2e.onnx"),
        "task": str(task),
        "calibration": {"source": {"type": "bag", "path": str(bag), "topic": topic}, "samples": 2},
        "gate": None,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    text = refusal(
        capsys, "build", str(tmp_path / "recipe.yaml"), "--output", str(tmp_path / "bundle")
    )
    assert_helpful(text, topic, kind, bag)
