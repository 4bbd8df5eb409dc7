# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Every family of heads against loops in double precision, and against hand-worked numbers."""

import helpers_task as helpers
import numpy as np
import pytest
from helpers_task import assert_same, half_exact, image_context, make, squash_of

from av_compress.tasks.camera_detection.heads import FAMILIES

SIZE = (96, 64)
CLASSES = 3
ANCHORS = [[[10, 13], [16, 30]], [[30, 61], [62, 45]], [[59, 119], [116, 90]]]
STRIDES = (8, 16, 32)
CELLS = [(12, 8), (6, 4), (3, 2)]
TOTAL = sum(columns * rows for columns, rows in CELLS)
both_labels = pytest.mark.parametrize("multi_label", [False, True])
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float16])


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@both_labels
@both_types
@pytest.mark.parametrize("encoding", ["grid", "pixels"])
@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_yolox(rng, encoding, activation, multi_label, dtype):
    array = rng.normal(0.0, 1.0, (1, TOTAL, 5 + CLASSES))
    if encoding == "pixels":
        array[..., :4] = rng.uniform(1.0, 60.0, (1, TOTAL, 4))
    if activation == "none":
        array[..., 4:] = rng.uniform(0.0, 1.0, (1, TOTAL, 1 + CLASSES))
    exact, array = half_exact(array, dtype)
    head = {
        "type": "yolox",
        "box_encoding": encoding,
        "activation": activation,
        "multi_label": multi_label,
    }
    want = helpers.loop_yolox(
        exact, SIZE, STRIDES, 0.3, encoding, squash_of(activation), multi_label
    )
    assert_same(make(head).decode({"output": array}), want)


@both_labels
@both_types
@pytest.mark.parametrize("form", ["scales", "rows"])
@pytest.mark.parametrize(
    ("cell_center", "offset"),
    [
        ("pixel_center", lambda stride: (stride - 1) / 2),
        ("corner", lambda stride: 0.0),
        ("center", lambda stride: stride / 2),
    ],
)
def test_nanodet(rng, form, cell_center, offset, multi_label, dtype):
    strides, cells = (8, 16, 32, 64), [*CELLS, (2, 1)]
    total = sum(columns * rows for columns, rows in cells)
    exact_scores, scores = half_exact(rng.uniform(0.0, 1.0, (total, CLASSES)), dtype)
    exact_sides, sides = half_exact(rng.normal(0.0, 2.0, (total, 4 * 8)), dtype)
    if form == "rows":
        outputs = {"output": np.concatenate([scores, sides], axis=1)[None]}
    else:
        ends = np.cumsum([columns * rows for columns, rows in cells])[:-1]
        outputs = {}
        for index, part in enumerate(zip(np.split(scores, ends), np.split(sides, ends))):
            outputs |= {f"cls{index}": part[0][None], f"reg{index}": part[1][None]}
    head = {
        "type": "nanodet",
        "strides": list(strides),
        "cell_center": cell_center,
        "multi_label": multi_label,
    }
    want = helpers.loop_sides(
        exact_scores,
        exact_sides.reshape(total, 4, 8),
        SIZE,
        strides,
        0.3,
        offset,
        helpers.identity,
        multi_label,
    )
    assert_same(make(head).decode(outputs), want)


@both_labels
@both_types
@pytest.mark.parametrize("form", ["maps", "grids", "rows"])
def test_yolov5(rng, form, multi_label, dtype):
    shapes = [(2, 5 + CLASSES, rows, columns) for columns, rows in CELLS]
    pairs = [half_exact(rng.normal(0.0, 1.5, shape), dtype) for shape in shapes]
    want = helpers.loop_anchors(
        [exact for exact, _ in pairs], STRIDES, ANCHORS, 0.3, helpers.logistic, multi_label
    )
    head = {"type": "yolov5", "anchors": ANCHORS, "multi_label": multi_label}
    if form == "maps":
        outputs = {
            f"p{i}": array.reshape(1, -1, *array.shape[2:]) for i, (_, array) in enumerate(pairs)
        }
    elif form == "grids":
        outputs = {f"p{i}": np.moveaxis(array, 1, -1)[None] for i, (_, array) in enumerate(pairs)}
    else:
        exact, rows = half_exact(rng.uniform(0.0, 1.0, (2 * TOTAL, 5 + CLASSES)), dtype)
        outputs = {"output": rows[None]}
        want = helpers.loop_yolox(
            exact[None],
            (2 * TOTAL, 1),
            (1,),
            0.3,
            "pixels",
            helpers.identity,
            multi_label,
        )
    assert_same(make(head).decode(outputs), want)


def test_yolov5_rows_need_no_anchors(rng):
    rows = rng.uniform(0.0, 1.0, (1, 17, 5 + CLASSES)).astype(np.float32)
    want = helpers.loop_yolox(rows, (17, 1), (1,), 0.3, "pixels", helpers.identity, False)
    assert_same(make({"type": "yolov5"}).decode({"output": rows}), want)


@both_labels
@both_types
@pytest.mark.parametrize("last", [True, False])
def test_yolo_fastestv2(rng, last, multi_label, dtype):
    """Anchors share their cell's classes, so the reference gets them repeated."""
    strides, anchors = (16, 32), ANCHORS[1:]
    outputs, repeated = {}, []
    for index, (columns, rows) in enumerate(CELLS[1:]):
        exact, array = half_exact(rng.uniform(0.0, 1.0, (5 * 2 + CLASSES, rows, columns)), dtype)
        outputs[f"p{index}"] = (np.moveaxis(array, 0, -1) if last else array)[None]
        repeated.append(
            np.stack(
                [
                    np.concatenate([exact[4 * a : 4 * a + 4], exact[8 + a : 9 + a], exact[10:]])
                    for a in range(2)
                ]
            )
        )
    head = {"type": "yolo_fastestv2", "anchors": anchors, "multi_label": multi_label}
    want = helpers.loop_anchors(repeated, strides, anchors, 0.3, helpers.identity, multi_label)
    assert_same(make(head).decode(outputs), want)


@both_labels
@both_types
@pytest.mark.parametrize("form", ["columns", "rows", "maps"])
def test_yolov8(rng, form, multi_label, dtype):
    head = {"type": "yolov8", "multi_label": multi_label}
    if form == "maps":
        logits, arrays = half_exact(rng.normal(0.0, 1.5, (TOTAL, 64 + CLASSES)), dtype)
        ends = np.cumsum([columns * rows for columns, rows in CELLS])[:-1]
        outputs = {
            f"p{index}": part.T.reshape(1, -1, rows, columns)
            for index, (part, (columns, rows)) in enumerate(zip(np.split(arrays, ends), CELLS))
        }
        want = helpers.loop_sides(
            logits[:, 64:],
            logits[:, :64].reshape(-1, 4, 16),
            SIZE,
            STRIDES,
            0.3,
            lambda stride: stride / 2,
            helpers.logistic,
            multi_label,
        )
    else:
        exact, rows = half_exact(rng.uniform(0.0, 1.0, (TOTAL, 4 + CLASSES)), dtype)
        outputs = {"output0": (rows.T if form == "columns" else rows)[None]}
        with_objectness = np.insert(exact, 4, 1.0, axis=1)[None]
        want = helpers.loop_yolox(
            with_objectness, SIZE, STRIDES, 0.3, "pixels", helpers.identity, multi_label
        )
    assert_same(make(head).decode(outputs), want)


@both_labels
@both_types
def test_fastestdet(rng, multi_label, dtype):
    array = rng.normal(0.0, 1.0, (1, 5 + CLASSES, 4, 6))
    array[:, 0] = rng.uniform(0.0, 1.0, (1, 4, 6))
    array[:, 5:] = rng.dirichlet(np.ones(CLASSES), (1, 4, 6)).transpose(0, 3, 1, 2)
    exact, array = half_exact(array, dtype)
    head = {"type": "fastestdet", "multi_label": multi_label}
    want = helpers.loop_fastestdet(exact, 16, 0.6, 0.3, multi_label)
    assert_same(make(head).decode({"output": array}), want)


@both_types
@pytest.mark.parametrize("with_offset", [True, False])
@pytest.mark.parametrize(("unit", "factor"), [("cells", 4.0), ("pixels", 1.0)])
@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_centernet(rng, with_offset, unit, factor, activation, dtype):
    shape = (16, 24)
    low = 0.0 if activation == "none" else -2.0
    exact_heat, heat = half_exact(rng.uniform(low, 1.0, (1, CLASSES, *shape)), dtype)
    exact_size, size = half_exact(rng.uniform(0.5, 9.0, (1, 2, *shape)), dtype)
    exact_offset, offset = half_exact(rng.uniform(0.0, 1.0, (1, 2, *shape)), dtype)
    outputs = {"hm": heat, "wh": size, "reg": offset}
    names = {"size": "wh"}
    if not with_offset:
        del outputs["reg"]
        exact_offset = None
    head = {"type": "centernet", "size_unit": unit, "activation": activation, "outputs": names}
    want = helpers.loop_centernet(
        exact_heat, exact_size, exact_offset, 4, 0.3, squash_of(activation), factor
    )
    assert_same(make(head).decode(outputs), want)


def test_centernet_takes_every_cell_of_a_plateau():
    """Equal neighbours are both peaks, as with the 3x3 max-pool of the reference; NMS is next."""
    heat = np.zeros((1, CLASSES, 16, 24), np.float32)
    heat[0, 1, 5, 6:8] = 0.5
    outputs = {"hm": heat, "wh": np.full((1, 2, 16, 24), 3.0, np.float32)}
    found = make({"type": "centernet"}).decode(outputs)
    np.testing.assert_array_equal(
        found.boxes, [[24 - 6, 20 - 6, 24 + 6, 20 + 6], [28 - 6, 20 - 6, 28 + 6, 20 + 6]]
    )


@pytest.mark.parametrize("nms_inside", [False, True])
@pytest.mark.parametrize(
    ("box_format", "box"),
    [
        ("xyxy", (12, 16, 36, 48)),
        ("yxyx", (16, 12, 48, 36)),
        ("cxcywh", (24, 32, 24, 32)),
        ("xywh", (12, 16, 24, 32)),
    ],
)
@pytest.mark.parametrize("unit", ["pixels", "normalized"])
@pytest.mark.parametrize("form", ["labels", "matrix", "rows"])
@pytest.mark.parametrize("batched", [True, False])
def test_decoded(box_format, box, unit, form, batched, nms_inside):
    """Two boxes of class 1, one on top of the other, and a row of padding."""
    scale = np.ones(4)
    if unit == "normalized":
        scale = np.array([64, 96, 64, 96] if box_format == "yxyx" else [96, 64, 96, 64])
    boxes = np.array([np.array(box) / scale] * 3, np.float32)
    scores = np.array([0.5, 0.75, 0.0], np.float32)
    labels = np.array([1, 1, -1], np.int64)
    if form == "labels":
        outputs = {"b": boxes, "s": scores, "l": labels}
    elif form == "matrix":
        outputs = {"b": boxes, "s": np.eye(3, dtype=np.float32)[labels] * scores[:, None]}
    else:
        outputs = {"d": np.column_stack([boxes, scores, labels]).astype(np.float32)}
    if batched:
        outputs = {name: array[None] for name, array in outputs.items()}
    head = {
        "type": "decoded",
        "box_format": box_format,
        "box_unit": unit,
        "nms_inside": nms_inside,
    }
    task = make(head, nms={"iou_threshold": 0.5})
    result = task.postprocess(outputs, image_context(task, 192, 128))
    count = 2 if nms_inside else 1
    np.testing.assert_allclose(result.boxes, [[24, 32, 72, 96]] * count, rtol=1e-6)
    np.testing.assert_array_equal(result.scores, [0.75, 0.5][:count])
    np.testing.assert_array_equal(result.labels, [1] * count)


def test_decoded_drops_labels_that_are_no_class():
    rows = np.array([[[1, 2, 3, 4, 0.9, label] for label in (-1, 0, 2, 3, np.nan)]], np.float32)
    found = make({"type": "decoded"}).decode({"d": rows})
    np.testing.assert_array_equal(found.labels, [0, 2])


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_only_the_broken_rows_are_dropped(poison):
    rows = np.tile(np.array([1, 2, 3, 4, 0.9, 0], np.float32), (7, 1))
    for column in range(5):
        rows[column, column] = poison
    rows[5, 3] = 5
    found = make({"type": "decoded"}).decode({"d": rows[None]})
    np.testing.assert_array_equal(found.boxes, [[1, 2, 3, 5], [1, 2, 3, 4]])


def test_decoded_skips_a_background_class():
    head = {"type": "decoded", "label_offset": 1, "activation": "sigmoid"}
    scores = np.array([[[9.0, -9.0, 0.0, -9.0], [0.0, -9.0, -9.0, -9.0]]], np.float32)
    boxes = np.array([[[1, 2, 3, 4], [5, 6, 7, 8]]], np.float32)
    # As many columns as box coordinates: the shapes alone leave it open which is which.
    names = {"outputs": {"scores": "scores"}}
    found = make({**head, **names}).decode({"boxes": boxes, "scores": scores})
    np.testing.assert_array_equal(found.boxes, [[1, 2, 3, 4]])
    np.testing.assert_array_equal(found.scores, [0.5])
    np.testing.assert_array_equal(found.labels, [1])


def poisoned_outputs():
    """For each family: a head and outputs of ones, which all pass the threshold."""
    columns_rows = list(zip(("a", "b", "c"), CELLS))
    yield {"type": "yolox"}, {"o": (1, TOTAL, 8)}
    yield {"type": "yolov5"}, {"o": (1, TOTAL, 8)}
    yield (
        {"type": "yolov5", "anchors": ANCHORS},
        {name: (1, 16, rows, columns) for name, (columns, rows) in columns_rows},
    )
    yield (
        {"type": "yolo_fastestv2", "anchors": ANCHORS[1:]},
        {name: (1, rows, columns, 13) for name, (columns, rows) in columns_rows[1:]},
    )
    yield {"type": "yolov8"}, {"o": (1, 7, TOTAL)}
    yield (
        {"type": "yolov8"},
        {name: (1, 67, rows, columns) for name, (columns, rows) in columns_rows},
    )
    yield {"type": "nanodet"}, {"o": (1, TOTAL, 35)}
    yield {"type": "fastestdet"}, {"o": (1, 8, 4, 6)}
    yield {"type": "centernet"}, {"h": (1, 3, 16, 24), "s": (1, 2, 16, 24)}
    yield {"type": "decoded"}, {"o": (1, 9, 6)}


def test_every_family_is_poisoned():
    assert {head["type"] for head, _ in poisoned_outputs()} == set(FAMILIES)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize(("head", "shapes"), list(poisoned_outputs()))
@pytest.mark.filterwarnings("error")
def test_numbers_that_are_none_are_dropped(head, shapes, poison):
    """Nothing but finite boxes comes out, whatever and wherever the model's outputs broke."""
    task = make(head, nms={"iou_threshold": 0.6})
    context = image_context(task, 200, 100)
    rng = np.random.default_rng(3)
    for share in (0.02, 0.3, 1.0):
        outputs = {name: rng.uniform(0.3, 1.0, shape) for name, shape in shapes.items()}
        for array in outputs.values():
            array[rng.uniform(size=array.shape) < share] = poison
        outputs = {name: array.astype(np.float32) for name, array in outputs.items()}
        result = task.postprocess(outputs, context)
        assert np.isfinite(result.boxes).all()
        assert ((result.scores >= 0) & (result.scores <= 1)).all()
        assert ((result.labels >= 0) & (result.labels < CLASSES)).all()
        assert (result.boxes[:, 2:] > result.boxes[:, :2]).all()
        assert (result.boxes >= 0).all()
        assert (result.boxes <= [200, 100, 200, 100]).all()


@pytest.mark.parametrize(("head", "shapes"), list(poisoned_outputs()))
def test_nothing_over_the_threshold_gives_an_empty_result(head, shapes):
    task = make(head, nms={"iou_threshold": 0.6})
    low = -20.0 if head["type"] in {"yolov5", "yolov8"} and len(shapes) == 3 else 0.0
    outputs = {name: np.full(shape, low, np.float32) for name, shape in shapes.items()}
    result = task.postprocess(outputs, image_context(task, 200, 100))
    assert len(result) == 0
    assert result.boxes.shape == (0, 4)
    assert (result.boxes.dtype, result.scores.dtype, result.labels.dtype) == (
        np.float32,
        np.float32,
        np.int32,
    )
