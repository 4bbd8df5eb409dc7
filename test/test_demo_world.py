# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo world: the same for the same seed, and labelled as it is drawn."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from av_compress.data.bags import BagClouds, BagImages, bag_topics
from av_compress.data.demo.camera import Camera, render
from av_compress.data.demo.drive import START_NS, Drive, write_bag, write_dataset, write_sweeps
from av_compress.data.demo.kitti import write_kitti
from av_compress.data.demo.lidar import MIN_POINTS, Lidar, as_cloud, sweep
from av_compress.data.demo.world import CLASSES, EGO_Y, Light, Part, Thing, World, make_world
from av_compress.data.kitti import CLASS_NAMES, KittiFolder
from av_compress.data.points import PointOptions
from av_compress.metrics.labels3d import map_labels_3d

LIGHT = Light(1.0, 0.0, 400.0, (0.0, 0.0, 1.0))


def single(thing: Thing) -> World:
    return World(0, (thing,), LIGHT, 10.0)


def box(kind: str, x: float, y: float, size: tuple[float, float, float]) -> Thing:
    part = Part((0.0, 0.0, size[2] / 2), size, (40, 40, 200))
    return Thing(kind, x, y, 0.0, 0.0, 0.0, (part,))


@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_seed_gives_the_same_bytes(seed: int):
    assert make_world(seed) == make_world(seed)
    first, labels = render(make_world(seed), 1.5, Camera())
    second, again = render(make_world(seed), 1.5, Camera())
    assert np.array_equal(first, second)
    assert np.array_equal(labels.boxes, again.boxes)
    points, seen = sweep(make_world(seed), 1.5, Lidar(rings=8))
    points_again, seen_again = sweep(make_world(seed), 1.5, Lidar(rings=8))
    assert np.array_equal(points, points_again)
    assert np.array_equal(seen.boxes, seen_again.boxes)


def test_other_seeds_and_times_give_other_images():
    base = render(make_world(1), 0.0, Camera())[0]
    assert not np.array_equal(base, render(make_world(2), 0.0, Camera())[0])
    assert not np.array_equal(base, render(make_world(1), 0.5, Camera())[0])


def test_a_box_ahead_is_where_the_pinhole_puts_it():
    camera = Camera()
    # Front face 2 m wide and 1.5 m high at 19 m; the camera is 1.55 m up, straight behind it.
    pixels, labels = render(single(box("car", 20.0, EGO_Y, (2.0, 2.0, 1.5))), 0.0, camera)
    center, horizon = camera.width / 2, camera.height * 0.45
    scale = camera.focal / 19.0
    expected = [
        center - scale,
        horizon + (camera.mounted - 1.5) * scale,
        center + scale,
        horizon + camera.mounted * scale,
    ]
    assert labels.labels.tolist() == [CLASSES.index("car")]
    # The top is seen from above: its far edge is nearer to the horizon by less than a pixel.
    np.testing.assert_allclose(labels.boxes[0], expected, atol=1.6)
    middle = pixels[int((expected[1] + expected[3]) / 2), int(center)]
    assert middle[2] > 90 > middle[0]


def test_what_is_hidden_is_not_labelled():
    hidden = box("pedestrian", 30.0, EGO_Y, (0.5, 0.5, 1.6))
    wall = box("building", 15.0, EGO_Y, (1.0, 6.0, 5.0))
    assert len(render(single(hidden), 0.0, Camera())[1]) == 1
    both = World(0, (hidden, wall), LIGHT, 10.0)
    assert len(render(both, 0.0, Camera())[1]) == 0


def test_a_ray_hits_the_face_that_is_nearest():
    world = single(box("car", 20.0, EGO_Y, (4.0, 2.0, 3.0)))
    points, _ = sweep(world, 0.0, Lidar(noise=0.0))
    ahead = points[(np.abs(points["y"]) < 0.9) & (points["x"] > 5) & (points["z"] > -1.8)]
    assert len(ahead) > 20
    np.testing.assert_allclose(ahead["x"], 18.0, atol=1e-3)
    ground = points[points["z"] < -1.8]
    np.testing.assert_allclose(ground["z"], -1.9, atol=1e-3)


def test_a_box_in_a_sweep_is_labelled_where_it_stands():
    car = box("car", 20.0, EGO_Y + 3.0, (4.0, 2.0, 1.5))
    turned = replace(car, yaw=float(np.pi), speed=2.0)
    _, labels = sweep(World(0, (turned,), LIGHT, 10.0), 1.0, Lidar())
    assert labels.labels.tolist() == [CLASSES.index("car")]
    # After a second the car has come 2 m nearer, the sensor 10 m; it is 1.9 m up.
    expected = [8.0, 3.0, 0.75 - 1.9, 4.0, 2.0, 1.5, np.pi]
    np.testing.assert_allclose(labels.boxes[0], expected, atol=1e-5)
    assert labels.velocities is not None
    np.testing.assert_allclose(labels.velocities[0], [-2.0, 0.0], atol=1e-6)
    assert not labels.ignored[0]


def test_labels_of_sweeps_hold_the_points_of_their_objects():
    points, labels = sweep(make_world(7), 8.0, Lidar(noise=0.0))
    assert {CLASSES[label] for label in labels.labels} == set(CLASSES)
    assert 0 < labels.ignored.sum() < len(labels)
    places = as_cloud(points).points[:, :3].astype(np.float64)
    for one, ignored in zip(labels.boxes.astype(np.float64), labels.ignored):
        cos, sin = np.cos(one[6]), np.sin(one[6])
        away = places - one[:3]
        local = away @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        # The ground is no object's, and begins where boxes end.
        inside = (np.abs(local) <= one[3:6] / 2 + 1e-3).all(axis=1) & (places[:, 2] > -1.899)
        assert inside.sum() >= (1 if ignored else MIN_POINTS)


def test_what_is_hidden_from_the_lidar_is_not_labelled():
    hidden = box("pedestrian", 30.0, EGO_Y, (0.5, 0.5, 1.6))
    wall = box("building", 15.0, EGO_Y, (1.0, 6.0, 5.0))
    assert len(sweep(single(hidden), 0.0, Lidar())[1]) == 1
    assert len(sweep(World(0, (hidden, wall), LIGHT, 10.0), 0.0, Lidar())[1]) == 0


def test_sweeps_in_kittis_layout_are_read_as_they_were_cast(tmp_path: Path):
    split = write_kitti([Drive(3, 1.0, 2.0), Drive(4, 0.5, 2.0)], tmp_path / "clouds")
    source = KittiFolder(tmp_path / "clouds", "whole", split)
    assert len(source) == 3
    for index, (seed, seconds) in enumerate([(3, 0.0), (3, 0.5), (4, 0.0)]):
        points, labels = sweep(make_world(seed), seconds, Lidar())
        np.testing.assert_array_equal(source.read(index).points, as_cloud(points).points)
        names = CLASSES[:3]
        there = map_labels_3d(labels, CLASSES, names)
        wanted = ~there.ignored & (there.boxes[:, 0] > -25) & (there.boxes[:, 0] < 50)
        read = map_labels_3d(source.labels(index), CLASS_NAMES, names)
        assert read.labels.tolist() == there.labels[wanted].tolist()
        np.testing.assert_allclose(read.boxes[:, :6], there.boxes[wanted, :6], atol=2e-4)
        turns = read.boxes[:, 6] - there.boxes[wanted, 6]
        np.testing.assert_allclose(np.cos(turns), 1.0, atol=1e-6)


def test_a_dataset_is_coco(tmp_path: Path):
    annotations = write_dataset([Drive(3, 1.0, 2.0)], tmp_path / "set")
    content = json.loads(annotations.read_text())
    assert [category["name"] for category in content["categories"]] == list(CLASSES)
    assert len(content["images"]) == 2
    for image in content["images"]:
        pixels = cv2.imread(str(tmp_path / "set" / image["file_name"]))
        assert pixels is not None
        assert pixels.shape == (image["height"], image["width"], 3)
    assert content["annotations"]
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + width <= Camera().width
        assert y + height <= Camera().height


def test_a_bag_holds_camera_and_lidar(tmp_path: Path):
    truth = write_bag(Drive(4, 0.3), tmp_path / "drive")
    topics = {topic.name: topic.count for topic in bag_topics(tmp_path / "drive")}
    assert topics == {"/camera/image_raw": 3, "/camera/camera_info": 3, "/lidar/points": 3}
    source = BagImages(tmp_path / "drive")
    for index, labels in enumerate(truth.images):
        pixels, again = render(make_world(4), index / 10, Camera())
        assert np.array_equal(source.read(index).pixels, pixels)
        assert np.array_equal(labels.boxes, again.boxes)
    source.close()
    with closing(BagClouds(tmp_path / "drive", options=PointOptions(channels=4))) as clouds:
        for index, labels in enumerate(truth.sweeps):
            points, again = sweep(make_world(4), index / 10, Lidar())
            cloud = clouds.read(index)
            np.testing.assert_array_equal(cloud.points, as_cloud(points).points)
            assert (cloud.frame_id, cloud.stamp_ns) == ("lidar", START_NS + index * 100_000_000)
            assert np.array_equal(labels.boxes, again.boxes)


def test_sweeps_of_several_drives_follow_one_another(tmp_path: Path):
    write_sweeps([Drive(4, 0.2), Drive(5, 0.1)], tmp_path / "sweeps")
    with closing(BagClouds(tmp_path / "sweeps", options=PointOptions(channels=4))) as clouds:
        stamps = [clouds.read(index).stamp_ns - START_NS for index in range(len(clouds))]
        assert stamps == [0, 100_000_000, 200_000_000]
        last = as_cloud(sweep(make_world(5), 0.0, Lidar())[0])
        np.testing.assert_array_equal(clouds.read(2).points, last.points)
