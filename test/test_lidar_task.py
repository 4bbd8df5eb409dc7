# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The LiDAR task from clouds to tensors, and from outputs to detections."""

import math

import numpy as np
import pytest
from helpers_lidar_task import (
    COLUMNS,
    LOWER,
    NAMES,
    ROWS,
    SIZE,
    UPPER,
    bev_config,
    cloud,
    lidar_config,
    make,
    rows_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from av_compress.errors import FrameError, ModelError
from av_compress.tasks.base import PointCloud
from av_compress.tasks.boxes3d import bev_iou
from av_compress.tasks.lidar_detection import LidarDetection
from av_compress.tasks.lidar_detection.features import channel_names, encode
from av_compress.tasks.lidar_detection.grid import Grid
from av_compress.tasks.lidar_detection.voxels import VoxelLimits, voxelise
from av_compress.tensors import TensorSpec

GRID = Grid(LOWER, UPPER, SIZE)
COORDINATES = st.one_of(st.floats(-4, 6, width=32), st.sampled_from([math.nan, math.inf, 0.0]))
# What becomes of values that are not finite: test_lidar_unusable.py.
CLOUDS = st.integers(0, 50).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float32, (n, 3), elements=COORDINATES),
        hnp.arrays(np.float32, (n, 3), elements=st.floats(-4, 6, width=32)),
    ).map(np.hstack)
)
PADDINGS = ["none", "zeros", "repeat_last"]


def spec(name, *shape, dtype=np.float32):
    return TensorSpec(name, shape, np.dtype(dtype))


@settings(max_examples=60)
@given(CLOUDS, st.sampled_from(PADDINGS), st.sampled_from(["float32", "float16"]), st.booleans())
def test_tensors_are_those_of_the_voxels(points, padding, dtype, given_room):
    """Features, places and numbers, behind them the padding, whatever lay there before."""
    names = {"num_points": "n", "num_voxels": "v"}
    encoder = {"padding": padding, "dtype": dtype, "tensors": names, "max_voxels": 7}
    task = make(encoder=encoder)
    room = {
        s.name: np.full([7 if e is None else e for e in s.shape], 9, s.dtype)
        for s in task.input_specs
    }
    prepared = task.preprocess(PointCloud(points), room if given_room else None)
    tensors = prepared.tensors
    if given_room:
        assert all(np.shares_memory(tensors[name], room[name]) for name in room)
    for s in task.input_specs:
        assert s.accepts(tensors[s.name])
    voxels = voxelise(points[:, :4], GRID, VoxelLimits(4, 7))
    count = len(voxels)
    features = encode(points[:, :4], voxels, GRID, channel_names("pointpillars")).astype(dtype)
    np.testing.assert_array_equal(tensors["voxels"][:count], features)
    _, rows, columns = voxels.cells.T
    np.testing.assert_array_equal(tensors["indices"][:count], rows * COLUMNS + columns)
    np.testing.assert_array_equal(tensors["n"][:count], voxels.counts)
    assert tensors["v"] == count
    total = 7 if padding != "none" else max(1, count)
    assert len(tensors["voxels"]) == len(tensors["indices"]) == len(tensors["n"]) == total
    for name in ("voxels", "indices", "n"):
        rest = tensors[name][max(1, count) :]
        last = tensors[name][count - 1] if padding == "repeat_last" and count else 0
        np.testing.assert_array_equal(rest, np.broadcast_to(last, rest.shape))
    counts = prepared.context.counts
    assert prepared.context.points == len(points)
    assert (counts.voxels, counts.outside) == (count, voxels.outside)
    assert counts.surplus_points == voxels.surplus_points
    assert counts.surplus_voxel_points == voxels.surplus_voxel_points


@pytest.mark.parametrize("padding", PADDINGS)
def test_room_that_is_not_there_is_refused(padding):
    """Compiled code would write beyond it."""
    task = make(encoder={"padding": padding})
    frame = cloud([[1.0, 0, 0, 0]])
    voxels, indices = np.zeros((20, 4, 9), np.float32), np.zeros(20, np.int64)
    assert len(task.preprocess(frame, {"voxels": voxels, "indices": indices}).tensors) == 2
    for room in (
        {"voxels": voxels},
        {"voxels": voxels, "indices": indices[:1]},
        {"voxels": voxels[:19], "indices": indices},
        {"voxels": voxels[:, :3], "indices": indices},
        {"voxels": voxels.astype(np.float16), "indices": indices},
    ):
        with pytest.raises(ModelError, match=r"room for input .*\[20.* is wanted"):
            task.preprocess(frame, room)
    picture = LidarDetection.from_config(bev_config())
    with pytest.raises(ModelError, match=r"float32 \[1, 3, 8, 12\]; float32 \[1, 3, 12, 8\]"):
        picture.preprocess(frame, {"input": np.zeros((1, 3, 8, 12), np.float32)})


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("points", [[], [[99.0, 0, 0, 1]], [[math.nan] * 4]])
def test_a_cloud_without_points_in_the_range_is_an_empty_voxel(points, padding):
    encoder = {"padding": padding, "tensors": {"num_points": "n", "num_voxels": "v"}}
    frame = PointCloud(np.array(points, np.float32).reshape(-1, 4))
    prepared = make(encoder=encoder).preprocess(frame)
    tensors = prepared.tensors
    assert len(tensors["voxels"]) == (1 if padding == "none" else 20)
    assert not tensors["voxels"].any()
    assert not tensors["indices"].any()
    # Models divide by the number of points.
    assert tensors["n"][0] == 1
    assert not tensors["n"][1:].any()
    assert tensors["v"] == [0]
    assert prepared.context.counts.outside == len(points)


@pytest.mark.parametrize(
    ("form", "dtype", "want"),
    [
        ("linear", "int64", [(1 * 8 + 5) * 12 + 2, (0 * 8 + 0) * 12 + 11]),
        ("zyx", "int32", [[1, 5, 2], [0, 0, 11]]),
        ("batch_zyx", "int32", [[0, 1, 5, 2], [0, 0, 0, 11]]),
    ],
)
def test_forms_of_places(form, dtype, want):
    """Two layers, each 2 m high."""
    encoder = {"index_form": form, "index_dtype": dtype}
    task = make(encoder=encoder, input_voxel_size=[0.4, 0.5, 2.0])
    found = task.preprocess(cloud([[1.0, 0.75, 0.5, 0], [4.75, -2.0, -3.0, 0]])).tensors
    assert found["indices"].dtype == dtype
    np.testing.assert_array_equal(found["indices"], want)


def test_points_of_the_vehicle_are_dropped_and_intensities_scaled():
    points = [[0.5, 0, 0, 8], [1.0, 0.5, 0.5, 8], [1.0625, 0.5, 0, 16], [math.nan, 0, 0, 1]]
    frame = cloud(points)
    before = frame.points.copy()
    box = {"lower": [0, -1, -1], "upper": [1, 1, 1]}
    task = make(input_ego_box=box, input_intensity_scale=0.25)
    prepared = task.preprocess(frame)
    np.testing.assert_array_equal(prepared.tensors["voxels"][0, 0, :4], [1.0625, 0.5, 0, 4])
    assert prepared.context.in_ego_box == 2
    assert prepared.context.points == 4
    assert prepared.context.counts.outside == 1
    np.testing.assert_array_equal(frame.points, before)
    scaled = make(input_intensity_scale=0.25).preprocess(frame).tensors["voxels"]
    assert scaled[0, 0, 3] == 2


@given(CLOUDS)
def test_columns_that_are_not_read_and_their_steps_do_not_matter(points):
    """A cloud may be a view of a message with more in every point."""
    task = make(input_intensity_scale=0.5)
    wide = np.zeros((len(points), 10), np.float32)
    wide[:, :6] = points
    whole = task.preprocess(PointCloud(points[:, :4].copy())).tensors
    for view in (points, wide[:, :6], np.asfortranarray(points)):
        found = task.preprocess(PointCloud(view)).tensors
        for name, array in whole.items():
            np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        (["distance"], "x, y, z"),
        ("pointpillars", "x, y, z, intensity"),
        ("autoware_centerpoint", "x, y, z, intensity, time"),
        (["x", "ring"], "x, y, z, intensity, time, ring"),
    ],
)
def test_the_columns_that_are_read_are_told(features, columns):
    task = make(encoder={"features": features})
    assert ", ".join(task.point_columns) == columns
    short = PointCloud(np.zeros((4, len(task.point_columns) - 1), np.float32), key="sweep 7")
    with pytest.raises(FrameError, match=rf"cloud 'sweep 7' has .*reads {task.point_columns[-1]}"):
        task.preprocess(short)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((3, 4)), r"float64 \[3, 4\], wanted float32"),
        (np.zeros(4, np.float32), r"float32 \[4\]"),
        (np.zeros((1, 3, 4), np.float32), r"float32 \[1, 3, 4\]"),
        (np.zeros((3, 4), ">f4"), r">f4 \[3, 4\], wanted float32"),
        ([[0.0, 0, 0, 0]], "points are list"),
        (np.zeros((3, 0), np.float32), "has no columns; the task reads x, y, z, intensity"),
        (np.zeros((3, 2), np.float32), "has x, y; the task reads z, intensity"),
    ],
)
def test_what_is_no_cloud_is_refused(points, words):
    with pytest.raises(FrameError, match=words):
        make().preprocess(PointCloud(points, key="cloud 3"))


def slow_map(points, channels, swapped, density_points):
    """SFA3D's makeBEVMap: sort by cell and height, take the first of each cell."""
    rows, columns = GRID.shape[1:]
    maps = np.zeros((len(channels), rows, columns))
    lower, upper = np.array(LOWER, np.float32), np.array(UPPER, np.float32)
    with np.errstate(invalid="ignore"):
        inside = ((points[:, :3] >= lower) & (points[:, :3] < upper)).all(axis=1)
    points = points[inside]
    size = np.array(SIZE, np.float32)
    cells = np.floor((points[:, :2] - lower[:2]) / size[:2]).astype(int)
    cells = np.minimum(cells, [columns - 1, rows - 1])
    order = np.lexsort((-points[:, 2], cells[:, 1], cells[:, 0]))
    points, cells = points[order], cells[order]
    places, first, counts = np.unique(cells, axis=0, return_index=True, return_counts=True)
    values = {
        "intensity": points[first, 3],
        "height": (points[first, 2].astype(np.float64) - LOWER[2]) / (UPPER[2] - LOWER[2]),
        "density": np.minimum(1.0, np.log(counts + 1) / np.log(density_points)),
    }
    for channel, name in enumerate(channels):
        maps[channel, places[:, 1], places[:, 0]] = values[name]
    return (maps.swapaxes(1, 2) if swapped else maps), len(places), int((~inside).sum())


@settings(max_examples=80)
@given(
    CLOUDS,
    st.permutations(["intensity", "height", "density"]),
    st.sampled_from(["x", "y"]),
    st.sampled_from([2, 4, 64]),
    st.sampled_from(["float32", "float16"]),
)
def test_pictures_are_those_of_the_definition(points, channels, rows_along, density, dtype):
    encoder = {"channels": channels, "rows_along": rows_along, "density_points": density}
    task = LidarDetection.from_config(bev_config(encoder={**encoder, "dtype": dtype}))
    points = np.concatenate([points, points + np.float32([0, 0, 0.25, 1, 0, 0])])
    prepared = task.preprocess(PointCloud(points))
    (made,) = prepared.tensors.values()
    want, filled, outside = slow_map(points[:, :4], channels, rows_along == "x", density)
    assert task.input_specs[0].accepts(made)
    exact = 1e-6 if dtype == "float32" else 1e-2
    np.testing.assert_allclose(made[0].astype(np.float64), want, atol=exact, rtol=exact)
    assert (prepared.context.counts.voxels, prepared.context.counts.outside) == (filled, outside)
    room = {"input": np.full_like(made, 7)}
    again = task.preprocess(PointCloud(points), room).tensors["input"]
    assert again is room["input"]
    np.testing.assert_array_equal(again, made)


def test_pictures_read_what_they_show():
    assert LidarDetection.from_config(bev_config()).point_columns == ("x", "y", "z", "intensity")
    flat = LidarDetection.from_config(bev_config(encoder={"channels": ["height", "density"]}))
    assert flat.point_columns == ("x", "y", "z")
    assert flat.input_specs[0].shape == (1, 2, COLUMNS, ROWS)


OUTPUTS = [
    spec("heatmap", 1, 3, 4, 6),
    spec("reg", 1, 2, 4, 6),
    spec("height", 1, 1, 4, 6),
    spec("dim", 1, 3, 4, 6),
    spec("rot", 1, 2, 4, 6),
]


@pytest.mark.parametrize(
    ("padding", "voxels", "indices", "fits"),
    [
        ("none", (None, 4, 9), (None,), True),
        ("none", (20, 4, 9), (20,), False),
        ("zeros", (None, 4, 9), (None,), True),
        ("zeros", (20, 4, 9), (20,), True),
        ("zeros", (30, 4, 9), (30,), False),
        ("none", (None, 4, None), (None,), True),
        ("none", (None, 5, 9), (None,), False),
        ("none", (None, 4, 9), (None, 4), False),
    ],
)
def test_a_models_inputs_are_held_against_the_task(padding, voxels, indices, fits):
    task = make(encoder={"padding": padding})
    inputs = [spec("indices", *indices, dtype=np.int64), spec("voxels", *voxels)]
    if fits:
        task.check_model(inputs, OUTPUTS)
        return
    with pytest.raises(ModelError, match=r"inputs do not fit the task; found: indices.*padding"):
        task.check_model(inputs, OUTPUTS)


def test_inputs_of_other_names_and_types_are_refused():
    task = make()
    good = [spec("voxels", None, 4, 9), spec("indices", None, dtype=np.int64)]
    task.check_model(good, OUTPUTS)
    for inputs in (
        good[:1],
        [*good, spec("more", 1)],
        [good[0], spec("places", None, dtype=np.int64)],
        [good[0], spec("indices", None, dtype=np.int32)],
    ):
        with pytest.raises(ModelError, match="wanted: voxels"):
            task.check_model(inputs, OUTPUTS)
    with pytest.raises(ModelError, match="outputs do not fit the head 'center' with 3 classes"):
        task.check_model(good, [])


def peaks(places):
    """Outputs of a task with the combined head: (row, column, label, score, cos) each."""
    heatmap, regression = np.zeros((1, 3, 4, 6), np.float32), np.zeros((1, 10, 4, 6), np.float32)
    for row, column, label, score, cos in places:
        heatmap[0, label, row, column] = score
        regression[0, :, row, column] = [0.5, 0.5, 0, 2.0, 1.0, 1.5, 0, cos, 3.0, -1.0]
    return {"heatmap": heatmap, "reg": regression}


SPEEDY = ["dx", "dy", "z", "length", "width", "height", "sin", "cos", "vx", "vy"]
HEAD = {
    "type": "center",
    "stride": 2,
    "activation": "none",
    "peaks": False,
    "maps": {"reg": SPEEDY},
}


@pytest.mark.parametrize(
    ("nms", "kept"),
    [
        ({"type": "none"}, [0, 1, 2, 3]),
        # Neighbours along x are 0.8 m apart and share 1.2 of 2.8 m: 0.43.
        ({"type": "rotated", "iou_threshold": 0.4}, [0, 2, 3]),
        ({"type": "rotated", "iou_threshold": 0.45}, [0, 1, 2, 3]),
        ({"type": "rotated", "iou_threshold": 0.4, "class_aware": False}, [0, 3]),
        ({"type": "circle", "radii": {"car": 1, "bus": 1, "cyclist": 1}}, [0, 2, 3]),
        ({"type": "circle", "radii": {"car": 0.75, "bus": 9, "cyclist": 9}}, [0, 1, 2, 3]),
        (
            {"type": "circle", "radii": dict.fromkeys(NAMES, 1.0), "class_aware": False},
            [0, 3],
        ),
        ({"type": "none", "max_detections": 2}, [0, 1]),
        ({"type": "rotated", "iou_threshold": 0.4, "max_candidates": 3}, [0, 2]),
    ],
)
def test_suppression(nms, kept):
    places = [(1, 1, 0, 0.9, 1), (1, 2, 0, 0.8, 1), (1, 0, 1, 0.75, 1), (3, 5, 0, 0.5, 1)]
    task = make(HEAD, nms=nms)
    outputs = peaks(places)
    found = task.postprocess(outputs, None)
    np.testing.assert_allclose(found.scores, [places[index][3] for index in kept])
    np.testing.assert_array_equal(found.labels, [places[index][2] for index in kept])
    np.testing.assert_allclose(found.velocities, [[3.0, -1.0]] * len(kept))
    if nms["type"] == "rotated" and nms.get("class_aware", True):
        for label in set(found.labels):
            boxes = found.boxes[found.labels == label]
            assert np.triu(bev_iou(boxes, boxes), 1).max(initial=0) <= nms["iou_threshold"]


def test_nothing_found_is_a_result():
    found = make(HEAD).postprocess(peaks([]), None)
    assert len(found) == 0
    assert found.boxes.shape == (0, 7)
    assert found.velocities.shape == (0, 2)


def test_half_precision_is_read():
    outputs = peaks([(1, 1, 2, 0.75, -1)])
    half = {name: array.astype(np.float16) for name, array in outputs.items()}
    task = make(HEAD)
    wide, narrow = (task.postprocess(arrays, None) for arrays in (outputs, half))
    np.testing.assert_array_equal(rows_of(wide), rows_of(narrow))
    assert narrow.boxes.dtype == np.float32
    assert narrow.boxes[0, 6] == np.float32(np.pi)


def test_measuring_sees_low_scores():
    task = make(HEAD)
    low = task.for_measuring()
    assert low.settings.score_threshold == 0.05
    assert make(HEAD, score_threshold=0.01).for_measuring().settings.score_threshold == 0.01
    assert low.with_score_threshold(0.3) == task
    assert low.preprocess_config() == task.preprocess_config()
    assert set(task.preprocess_config()) == {"kind", "input"}
    outputs = peaks([(1, 1, 0, 0.1, 1)])
    assert (len(task.postprocess(outputs, None)), len(low.postprocess(outputs, None))) == (0, 1)


def test_a_task_is_its_configuration():
    config = lidar_config()
    assert LidarDetection.from_config(config) == make()
    assert make() != make(score_threshold=0.4)
    assert make() != config
