# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Every family of LiDAR heads against loops in double precision and hand-worked numbers."""

import math
from dataclasses import replace

import helpers_lidar_task as helpers
import numpy as np
import pytest
from helpers_lidar_task import LOWER, NAMES, UPPER, assert_same, bev_config, make, rows_of
from helpers_task import half_exact, squash_of
from hypothesis import given
from hypothesis import strategies as st

from av_compress.errors import ConfigError, ModelError
from av_compress.tasks.lidar_detection import LidarDetection
from av_compress.tasks.lidar_detection.heads.base import make_boxes, normal_yaw
from av_compress.tensors import TensorSpec

# Maps of stride 2.
H, W = 4, 6
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float16])
SEPARATE = {
    "dim": ["log_length", "log_width", "log_height"],
    "height": ["z"],
    "reg": ["dx", "dy"],
    "rot": ["sin", "cos"],
}
COMBINED = ["dx", "dy", "z", "log_length", "log_width", "log_height", "sin", "cos"]
ANCHORS = [
    {"class_name": "car", "size": [3.9, 1.6, 1.56], "bottom": -1.78},
    {"class_name": "bus", "size": [9.0, 2.5, 3.0], "bottom": -1.9, "rotations": [0.0]},
    {"class_name": "cyclist", "size": [1.76, 0.6, 1.73], "bottom": -0.6, "rotations": [0, 1.57]},
]
CELL_ANCHORS = [
    (3.9, 1.6, 1.56, -1.78, 0.0),
    (3.9, 1.6, 1.56, -1.78, math.pi / 2),
    (9.0, 2.5, 3.0, -1.9, 0.0),
    (1.76, 0.6, 1.73, -0.6, 0.0),
    (1.76, 0.6, 1.73, -0.6, 1.57),
]
CODING = ["x", "y", "z", "length", "width", "height", "yaw"]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@both_types
@pytest.mark.parametrize("peaks", [True, False])
@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize("maps", [SEPARATE, {"regression": [*COMBINED, "vy", "vx"]}])
def test_center(rng, maps, activation, peaks, dtype):
    scores = rng.uniform(0, 1, (3, H, W)) if activation == "none" else rng.normal(0, 2, (3, H, W))
    exact, heatmap = half_exact(scores, dtype)
    values, outputs = {}, {"heatmap": heatmap[None]}
    for role, channels in maps.items():
        wide, array = half_exact(rng.normal(0, 1, (len(channels), H, W)), dtype)
        values |= dict(zip(channels, wide))
        outputs[role] = array[None]
    head = {"type": "center", "stride": 2, "maps": maps, "activation": activation, "peaks": peaks}
    want = helpers.loop_center(exact, values, 2, 0.3, squash_of(activation), peaks, range(3))
    assert_same(make(head).decode(outputs), want)


def test_center_in_groups(rng):
    """Two heads; the second one's classes are not in the task's order."""
    groups = [["bus"], ["cyclist", "car"]]
    outputs, want = {}, []
    for index, names in enumerate(groups):
        heatmap = rng.uniform(0, 1, (len(names), H, W)).astype(np.float32)
        maps = rng.normal(0, 1, (8, H, W)).astype(np.float32)
        outputs |= {f"score{index}": heatmap[None], f"box{index}": maps[None]}
        values = dict(zip(COMBINED, maps.astype(np.float64)))
        labels = [NAMES.index(name) for name in names]
        want += helpers.loop_center(heatmap, values, 2, 0.3, helpers.identity, True, labels)
    head = {
        "type": "center",
        "stride": 2,
        "activation": "none",
        "maps": {"reg": COMBINED},
        "groups": groups,
        "outputs": {"heatmap": ["score0", "score1"], "reg": ["box0", "box1"]},
    }
    assert_same(make(head).decode(outputs), want)
    by_shape = {**head, "outputs": {"reg": ["box0", "box1"]}}
    assert_same(make(by_shape).decode(outputs), want)


def test_a_hand_worked_center():
    """Cell (column 3, row 1), offset (0.25, 0.5): x = 3.25 * 0.8, y = 1.5 * 1.0 - 2."""
    heatmap = np.zeros((1, 3, H, W), np.float32)
    heatmap[0, 1, 1, 3] = 0.875
    heatmap[0, 1, 1, 2] = 0.75
    regression = np.zeros((1, 8, H, W), np.float32)
    regression[0, :, 1, 3] = [0.25, 0.5, -1.0, math.log(4), math.log(2), math.log(1.5), 2.0, 0.0]
    head = {"type": "center", "stride": 2, "activation": "none", "maps": {"reg": COMBINED}}
    found = make(head).decode({"heatmap": heatmap, "reg": regression})
    np.testing.assert_allclose(
        rows_of(found), [[2.6, -0.5, -1.0, 4, 2, 1.5, math.pi / 2, 0.875, 1]], atol=1e-6
    )
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.labels.dtype == np.int32
    assert found.velocities is None
    bottom = make({**head, "z_form": "bottom"}).decode({"heatmap": heatmap, "reg": regression})
    assert bottom.boxes[0, 2] == pytest.approx(-0.25)
    metres = {"reg": [name.removeprefix("log_") for name in COMBINED]}
    regression[0, 3:6, 1, 3] = [4, 2, 1.5]
    plain = make({**head, "maps": metres}).decode({"heatmap": heatmap, "reg": regression})
    np.testing.assert_allclose(plain.boxes[0, 3:6], [4, 2, 1.5])


@pytest.mark.parametrize(
    ("form", "angle", "yaw"),
    [
        ("counter_clockwise", 0.5, 0.5),
        ("clockwise", 0.5, -0.5),
        ("det3d", 0.5, -0.5 - math.pi / 2),
        # Driving along x: det3d's and SECOND's angle is -pi/2 there.
        ("det3d", -math.pi / 2, 0.0),
        ("counter_clockwise", -math.pi, math.pi),
        ("counter_clockwise", 3 * math.pi, math.pi),
        # Inside, but float32 rounds it to the bound that is outside.
        ("counter_clockwise", 1e-9 - math.pi, math.pi),
        ("clockwise", -4.0, 4.0 - 2 * math.pi),
    ],
)
def test_angles_become_the_projects(form, angle, yaw):
    parts = {name: np.ones(1) for name in ("x", "y", "z", "length", "width", "height")}
    made = make_boxes({**parts, "yaw": np.array([angle])}, "center", form)
    assert made.dtype == np.float32
    assert made[0, 6] == pytest.approx(yaw, abs=1e-6)


@given(st.lists(st.floats(-100, 100), min_size=1))
def test_normal_angles_point_where_they_did(angles):
    found = normal_yaw(np.array(angles))
    assert (found > -np.float32(np.pi)).all()
    assert (found <= np.float32(np.pi)).all()
    np.testing.assert_allclose(np.sin(found.astype(np.float64)), np.sin(angles), atol=1e-6)
    np.testing.assert_allclose(np.cos(found.astype(np.float64)), np.cos(angles), atol=1e-6)


def anchor_outputs(rng, dtype, count, classes, codes, bins):
    shapes = {"classes": classes, "boxes": codes, "directions": bins}
    spread = {"classes": 2.0, "boxes": 0.5, "directions": 1.0}
    exact, arrays = {}, {}
    for role, values in shapes.items():
        if values:
            exact[role], arrays[role] = half_exact(
                rng.normal(0, spread[role], (H, W, count, values)), dtype
            )
    return exact, arrays


def laid_out(arrays, layout):
    """Arrays [h, w, anchors, values] as a model has them."""
    flat = {role: array.reshape(1, H, W, -1) for role, array in arrays.items()}
    if layout == "channels_first":
        flat = {
            role: np.ascontiguousarray(array.transpose(0, 3, 1, 2)) for role, array in flat.items()
        }
    return flat


@both_types
@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    ("coding", "changes"),
    [
        (CODING, {}),
        (CODING, {"direction_bins": 0, "alignment": "centers", "multi_label": True}),
        (CODING, {"direction_limit_offset": 0.5, "direction_offset": 0.0, "direction_bins": 3}),
        (
            ["x", "y", "z", "width", "length", "height", "yaw", "vx", "vy"],
            {"extent": [1, -1, 3, 2]},
        ),
        ([*CODING[:6], "cos", "sin"], {"direction_bins": 0, "multi_label": True}),
    ],
)
def test_anchors(rng, coding, changes, layout, dtype):
    bins = changes.get("direction_bins", 2)
    exact, arrays = anchor_outputs(rng, dtype, 5, 3, len(coding), bins)
    options = {
        "multi_label": changes.get("multi_label", False),
        "alignment": changes.get("alignment", "edges"),
        "offset": changes.get("direction_offset", 0.78539),
        "limit": changes.get("direction_limit_offset", 0.0),
    }
    grid = changes.get("extent", [*LOWER[:2], *UPPER[:2]])
    want = helpers.loop_anchors(exact, CELL_ANCHORS, grid, coding, 0.6, options)
    head = {"type": "anchors", "anchors": ANCHORS, "coding": coding, **changes}
    task = make(head, score_threshold=0.6)
    assert_same(task.decode(laid_out(arrays, layout)), want)


def test_anchors_in_groups(rng):
    """Two heads, each with the anchors of its classes alone."""
    groups = [["cyclist", "car"], ["bus"]]
    parts = [CELL_ANCHORS[:2] + CELL_ANCHORS[3:], CELL_ANCHORS[2:3]]
    outputs, names, want = {}, {}, []
    for index, (classes, anchors) in enumerate(zip(groups, parts)):
        exact, arrays = anchor_outputs(rng, np.float32, len(anchors), len(classes), 7, 2)
        for role, array in laid_out(arrays, "channels_last").items():
            outputs[f"{role}{index}"] = array
            names.setdefault(role, []).append(f"{role}{index}")
        options = {"multi_label": False, "alignment": "edges", "offset": 0.78539, "limit": 0.0}
        grid = [*LOWER[:2], *UPPER[:2]]
        found = helpers.loop_anchors(exact, anchors, grid, CODING, 0.6, options)
        want += [(*row[:8], NAMES.index(classes[row[8]])) for row in found]
    head = {"type": "anchors", "anchors": ANCHORS, "groups": groups, "outputs": names}
    assert_same(make(head, score_threshold=0.6).decode(outputs), want)


def test_a_hand_worked_anchor():
    """Column 5 and row 0 of 6 x 4: the anchor stands in the corner (4.8, -2), diagonal 5."""
    anchors = [{"class_name": "car", "size": [4, 3, 2], "bottom": -2, "rotations": [0, 1.5]}]
    outputs = {
        "cls_preds": np.full((1, H, W, 2), -9.0, np.float32),
        "box_preds": np.zeros((1, H, W, 14), np.float32),
        "dir_preds": np.zeros((1, H, W, 4), np.float32),
    }
    outputs["cls_preds"][0, 0, 5, 1] = 0.0
    outputs["box_preds"][0, 0, 5, 7:] = [-0.2, 0.4, 0.5, math.log(0.5), 0.0, math.log(2), 0.25]
    outputs["dir_preds"][0, 0, 5, 3] = 1.0
    head = {"type": "anchors", "anchors": anchors, "outputs": {"directions": "dir_preds"}}
    task = make(head, classes=1, score_threshold=0.5)
    # 1.75 lies half a turn before the second direction, which begins at 0.78539 + pi.
    want = [3.8, 0.0, 0.0, 2.0, 3.0, 4.0, 1.75 - math.pi, 0.5, 0]
    np.testing.assert_allclose(rows_of(task.decode(outputs)), [want], atol=1e-5)


@both_types
def test_keypoints(rng, dtype):
    channels = {"hm_cen": 3, "cen_offset": 2, "direction": 2, "z_coor": 1, "dim": 3}
    exact, outputs = {}, {}
    for role, count in channels.items():
        values = rng.normal(0, 1.5, (count, W, H))
        values = np.abs(values) + 0.1 if role == "dim" else values
        exact[role], array = half_exact(values, dtype)
        outputs[role] = array[None]
    task = LidarDetection.from_config(bev_config())
    assert_same(task.decode(outputs), helpers.loop_sfa3d(exact, 2, 0.3))


def test_a_hand_worked_keypoint():
    """Row 5 is far along x: x = 5.5 * 0.8; column 1 is right: y = 1.5 * 1.0 - 2."""
    outputs = {
        name: np.zeros((1, count, W, H), np.float32)
        for name, count in {
            "hm_cen": 3,
            "cen_offset": 2,
            "direction": 2,
            "z_coor": 1,
            "dim": 3,
        }.items()
    }
    outputs["hm_cen"] -= 9
    outputs["hm_cen"][0, 2, 5, 1] = 0.0
    outputs["direction"][0, :, 5, 1] = [math.sin(0.5), math.cos(0.5)]
    outputs["z_coor"][0, 0, 5, 1] = 1.0
    outputs["dim"][0, :, 5, 1] = [1.5, 2.0, 4.0]
    found = LidarDetection.from_config(bev_config()).decode(outputs)
    want = [4.4, -0.5, 1.0 - 3.0 + 0.75, 4.0, 2.0, 1.5, -0.5, 0.5, 2]
    np.testing.assert_allclose(rows_of(found), [want], atol=1e-6)


def test_what_is_no_box_is_dropped():
    heatmap = np.zeros((1, 3, H, W), np.float32)
    heatmap[0, 0, 0, ::2] = 0.9
    heatmap[0, 0, 3, 0] = np.nan
    regression = np.zeros((1, 8, H, W), np.float32)
    regression[0, 7] = 1.0
    regression[0, 3, 0, 0] = 1000.0
    regression[0, 2, 0, 2] = np.nan
    head = {"type": "center", "stride": 2, "activation": "none", "maps": {"reg": COMBINED}}
    found = make(head).decode({"heatmap": heatmap, "reg": regression})
    np.testing.assert_allclose(rows_of(found)[:, :2], [[4 * 0.8, -2.0]], atol=1e-6)


def test_boxes_without_an_extent_are_dropped():
    heatmap = np.zeros((1, 3, H, W), np.float32)
    heatmap[0, 0, 0, ::2] = 0.9
    regression = np.ones((1, 8, H, W), np.float32)
    regression[0, 3, 0, 0] = 0.0
    regression[0, 5, 0, 2] = -1.0
    maps = {"reg": [name.removeprefix("log_") for name in COMBINED]}
    head = {"type": "center", "stride": 2, "activation": "none", "maps": maps}
    found = make(head).decode({"heatmap": heatmap, "reg": regression})
    np.testing.assert_allclose(rows_of(found)[:, :2], [[5 * 0.8, -1.0]], atol=1e-6)


@pytest.mark.parametrize(
    "head", [{"type": "center", "maps": {"reg": COMBINED}}, {"type": "anchors"}]
)
def test_scores_right_below_the_threshold_do_not_count(head):
    """The bound on raw scores leaves some room; what lies in it is left out at the end."""
    logits = math.log(0.3 / 0.7) + np.array([-5e-4, 5e-4])
    if head["type"] == "center":
        outputs = {"heatmap": np.full((1, 3, H, W), -9.0, np.float32)}
        outputs["heatmap"][0, 0, 0, [0, 3]] = logits
        outputs["reg"] = np.ones((1, 8, H, W), np.float32)
    else:
        head = {**head, "anchors": ANCHORS[1:2], "direction_bins": 0}
        outputs = {"classes": np.full((1, H, W, 3), -9.0, np.float32)}
        outputs["classes"][0, 0, [0, 3], 0] = logits
        outputs["boxes"] = np.zeros((1, H, W, 7), np.float32)
    found = make({**head, "stride": 2}).decode(outputs)
    np.testing.assert_allclose(found.scores, [0.3], atol=1e-3)
    assert found.scores[0] > 0.3


def test_outputs_are_told_by_their_roles_names():
    """What the shapes leave open is settled by outputs that are called like their roles."""
    task = make({"type": "center", "stride": 2})
    specs = [
        TensorSpec(name, (1, count, H, W), np.dtype(np.float32))
        for name, count in (("hm", 3), ("reg", 2), ("height", 1), ("dim", 3), ("rot", 2))
    ]
    inputs = task.input_specs
    task.check_model(inputs, specs)
    assert task._bind(specs).tensors["heatmap"] == "hm"
    crossed = make({"type": "center", "stride": 2, "outputs": {"rot": "reg", "heatmap": "hm"}})
    renamed = [replace(spec, name="o") if spec.name == "rot" else spec for spec in specs]
    assert crossed._bind(renamed).tensors == {
        "heatmap": "hm",
        "reg": "o",
        "height": "height",
        "dim": "dim",
        "rot": "reg",
    }
    others = [TensorSpec(f"o{index}", s.shape, s.dtype) for index, s in enumerate(specs)]
    with pytest.raises(
        ModelError, match=r"dim could be o0 or o3: name it|heatmap could be o0 or o3"
    ):
        task.check_model(inputs, others)
    with pytest.raises(
        ModelError, match=r"on a grid of 8 rows and 12 columns.*task.head.maps says"
    ):
        task.check_model(inputs, specs[:2])


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"type": "center", "maps": {"reg": COMBINED[1:]}}, "dx is missing"),
        ({"type": "center", "maps": {"a": COMBINED, "b": ["length"]}}, "length is there twice"),
        ({"type": "center", "maps": {"a": [*COMBINED, "vx"]}}, "vy is missing"),
        ({"type": "center", "maps": {"heatmap": COMBINED}}, "'heatmap' is not allowed"),
        ({"type": "center", "groups": [["car", "bus"]]}, "each of car, bus, cyclist once"),
        (
            {"type": "anchors", "anchors": ANCHORS[:2], "groups": [["car", "bus"], ["cyclist"]]},
            "there is none for cyclist",
        ),
        (
            {"type": "anchors", "anchors": [{**ANCHORS[0], "class_name": "tram"}]},
            r"anchors\[0\].class_name: 'tram' is not allowed; allowed: car, bus, cyclist",
        ),
        (
            {"type": "anchors", "anchors": ANCHORS, "coding": [*CODING, "sin"]},
            "yaw or sin and cos",
        ),
        ({"type": "anchors", "anchors": ANCHORS, "coding": CODING[1:]}, "task.head.coding"),
        ({"type": "anchors", "anchors": ANCHORS, "extent": [0, 0, 0, 1]}, "task.head.extent"),
    ],
)
def test_what_makes_no_box_is_refused(head, words):
    with pytest.raises(ConfigError, match=words):
        make(head)
