# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""KITTI's folders: places worked by hand, and labels that lie on the points of real clouds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers_kitti import CAR_LINE, REGION_LINE, SIZE, STRAIGHT, write_frame
from hypothesis import given
from hypothesis import strategies as st

from av_compress.data.base import LabelledSource
from av_compress.data.kitti import CLASS_NAMES, KittiFolder
from av_compress.data.kitti_calibration import Calibration, read_calibration
from av_compress.errors import AvCompressError, ConfigError, DataError, FrameError

POINTS = np.array(
    [
        [10, 1, 0, 0.5],  # in the middle, 10 pixels to the left
        [10, 10.1, 0, 0.1],  # left of the image
        [10, -9.9, -4.9, 0.2],  # its lower right corner
        [10, 0, -5.1, 0.2],  # below it
        [-10, 0, 0, 0.3],  # behind the camera
        [0, 0, 0, 0.3],  # in the lens
    ]
)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "training"
    write_frame(root, "000002", POINTS)
    write_frame(root, "000001", POINTS[:2], f"{REGION_LINE}\n{CAR_LINE}\n\n{CAR_LINE} 0.9\n")
    return root


def straight(tmp_path) -> Calibration:
    path = tmp_path / "calib.txt"
    path.write_text(STRAIGHT)
    return read_calibration(path)


def test_clouds_come_by_name_with_all_their_points(folder):
    source = KittiFolder(folder)
    assert isinstance(source, LabelledSource)
    assert [source.key(index) for index in range(len(source))] == ["000001", "000002"]
    cloud = source.read(1)
    np.testing.assert_array_equal(cloud.points, POINTS.astype(np.float32))
    assert (cloud.key, cloud.frame_id, cloud.stamp_ns) == ("000002", "velodyne", 0)
    assert cloud.points.flags.writeable
    assert source.description == "kitti training"
    source.close()


def test_the_cameras_view_holds_what_the_image_shows(folder):
    cloud = KittiFolder(folder, "camera").read(1)
    np.testing.assert_array_equal(cloud.points, POINTS[[0, 2]].astype(np.float32))


def test_a_label_worked_by_hand(folder):
    # The bottom's centre is 1 m right, 1.75 m below, 10 m ahead of the camera; 0 heads to the
    # right.
    labels = KittiFolder(folder).labels(1)
    want = [[10, -1, -1, 4, 2, 1.5, -math.pi / 2]]
    np.testing.assert_allclose(labels.boxes, want, atol=1e-6)
    assert labels.labels.tolist() == [CLASS_NAMES.index("Car")]
    assert labels.ignored.tolist() == [False]
    assert labels.visibility.occlusion.tolist() == [1]
    assert labels.visibility.truncation.tolist() == pytest.approx([0.1])
    assert labels.visibility.heights.tolist() == [35.5]


def test_regions_and_scores_are_left_out(folder):
    labels = KittiFolder(folder).labels(0)
    assert len(labels) == 2
    np.testing.assert_array_equal(labels.boxes[0], labels.boxes[1])


def test_a_cloud_without_objects_has_no_labels(tmp_path):
    write_frame(tmp_path, "0", POINTS, REGION_LINE)
    labels = KittiFolder(tmp_path).labels(0)
    assert labels.boxes.shape == (0, 7)
    assert len(labels.visibility.heights) == 0


@pytest.mark.parametrize(
    ("rotation", "yaw"),
    [(0.0, -math.pi / 2), (math.pi / 2, math.pi), (-math.pi / 2, 0.0), (-1.0, 1 - math.pi / 2)],
)
def test_headings_worked_by_hand(tmp_path, rotation, yaw):
    one = np.ones((1, 3))
    box = straight(tmp_path).boxes_to_lidar(one, one, np.array([rotation]))[0]
    assert math.cos(box[6] - yaw) == pytest.approx(1.0)
    assert -math.pi <= box[6] <= math.pi


def rotation_of(axis: int, angle: float) -> np.ndarray:
    turn = np.eye(4)
    first, second = [other for other in range(3) if other != axis]
    turn[first, first] = turn[second, second] = math.cos(angle)
    turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
    return turn


ANGLES = st.floats(-3, 3)


@given(ANGLES, st.floats(-0.03, 0.03), st.floats(-0.03, 0.03), st.lists(ANGLES, max_size=4))
def test_boxes_keep_their_place_among_the_points(heading, roll, pitch, rotations):
    """The middles of a box's front and of its bottom are found again in the other frame."""
    base = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, 0.3], [0, 0, 0, 1.0]])
    matrix = rotation_of(0, roll) @ rotation_of(2, pitch) @ base @ rotation_of(2, heading)
    calibration = Calibration(np.eye(3, 4), matrix)
    rng = np.random.default_rng(0)
    count = len(rotations)
    bottoms, sizes = rng.uniform(-20, 20, (count, 3)), rng.uniform(1, 4, (count, 3))
    boxes = calibration.boxes_to_lidar(bottoms, sizes, np.array(rotations))
    for box, bottom, (height, width, length), rotation in zip(boxes, bottoms, sizes, rotations):
        assert box[3:6].tolist() == [length, width, height]
        center = bottom - [0, height / 2, 0]
        again = matrix @ [*box[:3], 1.0]
        np.testing.assert_allclose(again[:3], center, atol=1e-9)
        front = center + length / 2 * np.array([math.cos(rotation), 0, -math.sin(rotation)])
        ours = [*(box[:2] + length / 2 * np.array([math.cos(box[6]), math.sin(box[6])])), box[2]]
        # Upright boxes in frames that tilt by 0.03 against each other.
        np.testing.assert_allclose((matrix @ [*ours, 1.0])[:3], front, atol=0.05 * length)


def test_heights_in_the_image_worked_by_hand(tmp_path):
    calibration = straight(tmp_path)
    boxes = np.array(
        [
            [11, 0, 0, 2, 2, 2, 0],  # its front is 10 m away: 20 pixels
            [11, 0, 5, 2, 2, 2, 0],  # its back's foot is 12 m away and 4 m up, its top above
            [11, 40, 0, 2, 2, 2, 0],  # left of the image
            [-11, 0, 0, 2, 2, 2, 0],  # behind the camera
            [0, 0, 0, 8, 2, 2, 0],  # around it: what is ahead fills a part of the image
        ]
    )
    have = calibration.heights(boxes, SIZE)
    np.testing.assert_allclose(have, [20, 50 / 3, 0, 0, 50], atol=1e-9)
    assert calibration.heights(np.zeros((0, 7)), SIZE).shape == (0,)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("velodyne/000001.bin", b"", "000001.bin is damaged: 0 bytes"),
        ("velodyne/000001.bin", b"\0" * 33, "000001.bin is damaged: 33 bytes are no whole number"),
        ("image_2/000001.png", b"\xff\xd8\xff", "000001.png is no PNG"),
        ("image_2/000001.png", b"\x89PNG\r\n\x1a\n", "000001.png is no PNG"),
    ],
)
def test_a_damaged_frame_is_refused(folder, name, content, says):
    (folder / name).write_bytes(content)
    with pytest.raises(FrameError, match=says):
        KittiFolder(folder, "camera").read(0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("Car 0 0", r"000001.txt:2 is no label: 14 finite numbers are needed .* there are 2"),
        (CAR_LINE.replace("1.75", "low"), "000001.txt:2 is no label: .*'low'"),
        (CAR_LINE.replace("1.75", "nan"), "000001.txt:2 is no label"),
        (CAR_LINE.replace("1.50", "0"), "000001.txt:2 has a box of 0.0 x 2.0 x 4.0 m"),
        (CAR_LINE.replace("Car", "Bus"), "000001.txt:2 has class 'Bus'; known: Car, Van, .*Dont"),
        (b"\xff\xfe", "labels .*000001.txt cannot be read"),
    ],
)
def test_a_damaged_label_is_named(folder, content, says):
    first = b"%s\n" % CAR_LINE.encode()
    content = content if isinstance(content, bytes) else content.encode()
    (folder / "label_2/000001.txt").write_bytes(first + content)
    with pytest.raises(DataError, match=says):
        KittiFolder(folder).labels(0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (STRAIGHT.replace("P2", "P9"), "calibration .*000001.txt lacks P2$"),
        ("", "lacks P2, R0_rect, Tr_velo_to_cam$"),
        (STRAIGHT.replace("R0_rect: 1 ", "R0_rect: "), "R0_rect is not 9 finite numbers"),
        (STRAIGHT.replace("R0_rect: 1 ", "R0_rect: one "), "R0_rect holds .*'one'"),
        (STRAIGHT.replace("R0_rect: 1 ", "R0_rect: inf "), "R0_rect is not 9 finite numbers"),
        (STRAIGHT.replace("R0_rect: 1 ", "R0_rect: 0 "), "are no rotations"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_damaged_calibration_is_named(folder, content, says):
    content = content if isinstance(content, bytes) else content.encode()
    (folder / "calib/000001.txt").write_bytes(content)
    with pytest.raises(DataError, match=says):
        KittiFolder(folder).labels(0)


@pytest.mark.parametrize("name", ["calib/000002.txt", "label_2/000002.txt", "image_2/000002.png"])
def test_missing_files_are_named_at_once(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"1 of 2 clouds lack a file: {name}$"):
        KittiFolder(folder, "camera")


def test_images_are_needed_for_the_cameras_view_alone(folder):
    (folder / "image_2/000002.png").unlink()
    assert len(KittiFolder(folder).read(1)) == len(POINTS)
    with pytest.raises(DataError, match=r"000002.png cannot be read: No such file"):
        KittiFolder(folder).image_size(1)


def test_a_folder_without_clouds_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a KITTI folder: it has no folder velodyne"):
        KittiFolder(tmp_path)
    (tmp_path / "velodyne").mkdir()
    with pytest.raises(DataError, match="holds no cloud"):
        KittiFolder(tmp_path)


def test_another_view_is_refused(folder):
    with pytest.raises(ConfigError, match="view is 'rear'; allowed: whole, camera"):
        KittiFolder(folder, "rear")


def test_a_file_that_goes_is_named(folder):
    source = KittiFolder(folder)
    (folder / "velodyne/000001.bin").unlink()
    with pytest.raises(AvCompressError, match=r"000001.bin cannot be read: No such file"):
        source.read(0)


@pytest.fixture(scope="module")
def real(shared_data):
    root = shared_data / "lidar" / "kitti"
    if not root.is_dir():
        pytest.skip(f"KITTI frames are absent: {root}")
    return KittiFolder(root, "camera")


def inside(points, box):
    offset = points[:, :3] - box[:3]
    cos, sin = np.cos(box[6]), np.sin(box[6])
    along, across = (
        offset[:, 0] * cos + offset[:, 1] * sin,
        offset[:, 1] * cos - offset[:, 0] * sin,
    )
    limits = box[3:6] / 2
    return (abs(along) < limits[0]) & (abs(across) < limits[1]) & (abs(offset[:, 2]) < limits[2])


@pytest.mark.shared_data
def test_real_labels_lie_on_real_points(real):
    """A box that lay wrong by its half height, or turned, would hold far fewer."""
    filled = []
    for index in range(len(real)):
        points, labels = real.read(index).points, real.labels(index)
        near = np.hypot(*labels.boxes[:, :2].T) < 30
        for box in labels.boxes[near & (labels.visibility.occlusion == 0)]:
            wider = box.copy()
            wider[3:5] += 0.8
            # Without the ground, that a wider box holds more of.
            above = points[points[:, 2] > box[2] - box[5] / 2 + 0.3]
            filled.append((inside(above, box).sum(), inside(above, wider).sum()))
    held, around = np.array(filled).T
    assert len(filled) >= 8
    assert held.min() > 20
    assert (held / around).min() > 0.75
    assert np.median(held / around) > 0.9


@pytest.mark.shared_data
def test_real_boxes_stand_in_the_image_where_they_were_drawn(real):
    apart = []
    for index in range(len(real)):
        labels = real.labels(index)
        heights = real.calibration(index).heights(labels.boxes, real.image_size(index))
        whole = labels.visibility.truncation == 0
        apart += list((heights - labels.visibility.heights)[whole])
    # Drawn by hand.
    assert np.abs(np.median(apart)) < 1
    assert np.abs(apart).max() < 8


@pytest.mark.shared_data
def test_the_camera_sees_a_sixth_of_a_real_cloud(real, shared_data):
    whole = KittiFolder(shared_data / "lidar" / "kitti")
    for index in range(len(real)):
        seen, full = real.read(index), whole.read(index)
        assert 0.1 < len(seen) / len(full) < 0.25
        assert (seen.points[:, 0] > 0).all()
