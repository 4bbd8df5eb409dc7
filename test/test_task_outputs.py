# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which models fit a task, and what is said about those that do not."""

import numpy as np
import pytest
from helpers_task import image_context, make

from av_compress.errors import ModelError
from av_compress.tensors import TensorSpec

IMAGES = TensorSpec("images", (1, 3, 64, 96), np.dtype(np.float32))
TOTAL = 12 * 8 + 6 * 4 + 3 * 2


def spec(name, *shape, dtype=np.float32):
    return TensorSpec(name, shape, np.dtype(dtype))


def refusal(task, outputs, inputs=(IMAGES,)):
    with pytest.raises(ModelError) as caught:
        task.check_model(inputs, outputs)
    return str(caught.value)


NANODET = [
    *(spec(f"c{index}", 1, cells, 3) for index, cells in enumerate((96, 24, 6))),
    *(spec(f"d{index}", 1, cells, 32) for index, cells in enumerate((96, 24, 6))),
]


@pytest.mark.parametrize(
    ("head", "outputs"),
    [
        ({"type": "yolox"}, [spec("o", 1, TOTAL, 8)]),
        ({"type": "yolox"}, [spec("o", None, TOTAL, 8)]),
        ({"type": "yolox"}, [spec("o", 1, None, None)]),
        ({"type": "yolox"}, [spec("o", 1, TOTAL, 8, dtype=np.float16)]),
        ({"type": "yolox"}, [spec("features", 1, 64, 8, 12), spec("o", 1, TOTAL, 8)]),
        ({"type": "nanodet"}, NANODET),
        ({"type": "nanodet"}, NANODET[::-1]),
        ({"type": "yolov8"}, [spec("o", 1, 7, TOTAL)]),
        ({"type": "yolov8"}, [spec("o", 1, TOTAL, 7)]),
        ({"type": "centernet"}, [spec("h", 1, 3, 16, 24), spec("s", 1, 2, 16, 24)]),
        (
            {"type": "decoded"},
            [spec("b", 1, None, 4), spec("s", 1, None), spec("l", 1, None, dtype=np.int64)],
        ),
        (
            {"type": "decoded"},
            [spec("b", None, 4), spec("l", None, dtype=np.int64), spec("s", None)],
        ),
        ({"type": "decoded"}, [spec("o", 1, 300, 6)]),
    ],
)
def test_models_that_fit(head, outputs):
    make(head).check_model([IMAGES], outputs)


def test_a_dynamic_batch_fits():
    dynamic = spec("images", None, 3, None, None)
    make({"type": "yolox"}).check_model([dynamic], [spec("o", None, TOTAL, 8)])


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [spec("image", 1, 3, 64, 96)],
        [spec("images", 1, 3, 96, 64)],
        [spec("images", 1, 64, 96, 3)],
        [spec("images", 2, 3, 64, 96)],
        [spec("images", 3, 64, 96)],
        [spec("images", 1, 3, 64, 96, dtype=np.float16)],
        [IMAGES, spec("scale", 1, 2)],
    ],
)
def test_an_input_that_does_not_fit_is_named(inputs):
    message = refusal(make({"type": "yolox"}), [spec("o", 1, TOTAL, 8)], inputs)
    assert "wanted: images[1,3,64,96] float32" in message
    for found in inputs or ["none"]:
        assert str(found) in message
    assert "task.input" in message


@pytest.mark.parametrize(
    "head",
    [
        {"type": "yolox"},
        {"type": "yolov5"},
        {"type": "yolov8"},
        {"type": "nanodet"},
        {"type": "fastestdet"},
        {"type": "centernet"},
        {"type": "decoded"},
    ],
)
def test_a_classifier_is_no_detector(head):
    message = refusal(make(head), [spec("prob", 1, 1000)])
    assert "found: prob[1,1000] float32" in message
    assert f"the head '{head['type']}' with 3 classes at 96x64" in message
    assert "task.head" in message


def test_what_was_wanted_is_named():
    assert f"detections [1,{TOTAL},8] float" in refusal(
        make({"type": "yolox"}), [spec("o", 1, 99, 8)]
    )
    message = refusal(make({"type": "nanodet"}), NANODET[:-1])
    assert "no output fits distances[2]" in message
    assert "distances[2] [1,6,32] float" in message


def test_raw_maps_without_anchors_are_explained():
    assert "task.head.anchors" in refusal(make({"type": "yolov5"}), [spec("p", 1, 24, 8, 12)])


def test_ambiguous_outputs_are_named_and_naming_settles_it():
    outputs = [spec("h", 1, 3, 16, 24), spec("wh", 1, 2, 16, 24), spec("reg", 1, 2, 16, 24)]
    message = refusal(make({"type": "centernet"}), outputs)
    assert "size could be wh or reg" in message
    for names in ({"size": "wh"}, {"offset": "reg"}, {"size": "wh", "offset": "reg"}):
        task = make({"type": "centernet", "outputs": names})
        task.check_model([IMAGES], outputs)
        assert task._bind(outputs).tensors == {"heatmap": "h", "size": "wh", "offset": "reg"}


def test_as_many_classes_as_distances_are_settled_by_names():
    outputs = [
        spec(name, 1, cells, 32) for cells in (96, 24, 6) for name in (f"c{cells}", f"d{cells}")
    ]
    plain = {"type": "nanodet"}
    assert "could be c96 or d96" in refusal(make(plain, classes=32), outputs)
    named = {**plain, "outputs": {"classes": ["c96", "c24", "c6"]}}
    bound = make(named, classes=32)._bind(outputs)
    assert bound.tensors["distances[1]"] == "d24"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"detections": "boxes"}, "there is no output 'boxes'"),
        ({"detections": "scores"}, "scores[1,5] float32 does not fit detections"),
    ],
)
def test_a_wrong_name_is_explained(names, words):
    outputs = [spec("output", 1, TOTAL, 8), spec("scores", 1, 5)]
    assert words in refusal(make({"type": "yolox", "outputs": names}), outputs)


def test_too_many_names_are_explained():
    names = {"maps": ["a", "b", "c", "d"]}
    message = refusal(make({"type": "yolov8", "outputs": names}), [spec("a", 1, 67, 8, 12)])
    assert "maps[3], which task.head.outputs names" in message


def test_named_outputs_are_the_ones_decoded():
    """Of two outputs of one shape the named one is read."""
    task = make({"type": "yolov5", "outputs": {"detections": "second"}})
    rows = np.zeros((1, 1, 8), np.float32)
    rows[0, 0] = [20, 20, 10, 10, 1, 0, 0.9, 0]
    outputs = {"first": np.zeros_like(rows), "second": rows}
    result = task.postprocess(outputs, image_context(task, 96, 64))
    np.testing.assert_allclose(result.boxes, [[15, 15, 25, 25]])
    np.testing.assert_array_equal(result.labels, [1])


def test_outputs_are_checked_at_every_frame():
    """A model with dynamic outputs may pass the first check and still return something else."""
    task = make({"type": "yolox"})
    task.check_model([IMAGES], [spec("o", 1, None, None)])
    with pytest.raises(ModelError, match=r"found: o\[1,5,8\]"):
        task.postprocess({"o": np.zeros((1, 5, 8), np.float32)}, image_context(task, 96, 64))
