# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Choosing cells by their scores loses none that would have been a candidate."""

import numpy as np
import pytest
from helpers_cells import ANCHORS, CELLS, LAYOUTS, TOTAL, edge_values, fill, same_bits
from helpers_task import image_context, logistic, make
from hypothesis import example, given, settings
from hypothesis import strategies as st

from av_compress.errors import ModelError
from av_compress.tasks.camera_detection.heads import FAMILIES, Cells, Scoring
from av_compress.tasks.camera_detection.heads.base import sigmoid
from av_compress.tasks.camera_detection.heads.cells import Block, Part, maps_of, rows_of
from av_compress.tasks.camera_detection.heads.family import CellDecoder
from av_compress.tensors import TensorSpec

every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
thresholds = st.one_of(
    st.sampled_from([1e-300, 1e-30, 1e-8, 1e-7, 0.05, 0.25, 0.3, 0.5, 0.9999999, 1.0]),
    st.floats(0.0, 1.0, exclude_min=True),
)


def cells_of(layout, task, outputs):
    """The form and the scoring, every cell of the outputs, and those that are chosen."""
    specs = [TensorSpec(name, array.shape, array.dtype) for name, array in outputs.items()]
    found = task.cell_outputs(specs)
    wide = {name: array.astype(np.float32) for name, array in outputs.items()}
    rows = np.ascontiguousarray(layout.rows(wide))
    every = Cells(found.form, np.arange(len(rows)), rows)
    by_role = {role: wide[name] for role, name in found.tensors.items()}
    with np.errstate(all="ignore"):
        chosen = found.scoring.find(by_role, task.settings.score_threshold)
    return found.scoring, every, Cells(found.form, *chosen)


@every_layout
@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    threshold=thresholds,
    edges=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
    dtype=st.sampled_from([np.float32, np.float16]),
    multi_label=st.booleans(),
    share=st.floats(0.0, 1.0),
)
def test_cells_that_are_not_chosen_would_change_nothing(
    layout, seed, threshold, edges, dtype, multi_label, share
):
    """Decoding all cells, the chosen, and any between gives the same bits as the whole outputs."""
    task = layout.task(score_threshold=threshold, multi_label=multi_label)
    outputs = fill(layout, seed, threshold, edges, dtype)
    _, every, chosen = cells_of(layout, task, outputs)
    assert np.array_equal(chosen.rows, every.rows[chosen.indices], equal_nan=True)
    whole = task.decode(outputs)
    more = np.random.default_rng(seed).uniform(size=len(every.indices)) < share
    more[chosen.indices] = True
    between = Cells(every.form, every.indices[more], every.rows[more])
    for cells in (every, chosen, between):
        assert same_bits(task.decode_cells(cells), whole)


def double_scores(scoring, rows):
    """The score of each row's best class, in double precision."""
    squash = logistic if scoring.activation == "sigmoid" else float
    own, other = scoring.powers
    scores = []
    for row in rows:
        best = squash(max(row[slice(*scoring.classes)]))
        scored = scoring.objectness is not None
        scores.append(squash(row[scoring.objectness]) ** own * best**other if scored else best)
    return np.array(scores)


@every_layout
@pytest.mark.parametrize("threshold", [0.05, 0.3])
def test_few_cells_are_chosen_in_vain(layout, threshold):
    """Each chosen cell's score lies within a hundredth of the threshold."""
    task = layout.task(score_threshold=threshold)
    over = under = 0
    for seed in range(8):
        outputs = fill(layout, seed, threshold, 0.0, np.float32)
        # Few are high, and no probability exceeds 1.
        if "sigmoid" in layout.name:
            outputs = {name: array - np.float32(2.0) for name, array in outputs.items()}
        else:
            outputs = {name: np.minimum(array, 1.0) ** 5 for name, array in outputs.items()}
        scoring, every, chosen = cells_of(layout, task, outputs)
        scores = double_scores(scoring, every.rows)
        assert (scores[chosen.indices] >= 0.99 * threshold).all()
        assert set(np.flatnonzero(scores >= 1.00001 * threshold)) <= set(chosen.indices)
        over, under = over + len(chosen.indices), under + len(scores) - len(chosen.indices)
    assert over > 10
    assert under > 10


@given(
    raw=st.floats(width=32, allow_nan=False),
    threshold=thresholds,
    place=st.integers(0, 79),
)
@example(raw=16.0, threshold=0.9999999, place=0)
@example(raw=-100.0, threshold=1e-300, place=0)
def test_no_raw_score_below_the_bound_counts(raw, threshold, place):
    edges = edge_values(threshold)
    values = np.array([raw, edges[place % len(edges)]], np.float32)
    scoring = Scoring((), (0, 1), activation="sigmoid")
    with np.errstate(all="ignore"):
        counts = sigmoid(values) >= threshold
    assert (values[counts] >= scoring.raw_bound(threshold)).all()


def test_where_the_values_of_maps_lie():
    """[1, 2 * 3, 2, 5]: two anchors of three channels, ten places."""
    block = maps_of("p", (1, 6, 2, 5), groups=2)
    assert block == Block(10, (Part("p", 3, 1, 10, group_step=30),), 2)
    assert block.total == 20


def test_where_the_values_of_rows_lie():
    assert rows_of("p", (1, 7, 4)) == Block(7, (Part("p", 4, 4, 1),))
    assert rows_of("p", (1, 2, 3, 5, 4)).cells == 30
    assert rows_of("p", (7, 4)).cells == 7


def test_which_part_has_a_channel():
    block = Block(3, (Part("a", 4, 4, 1), Part("b", 1, 1, 1), Part("c", 3, 3, 1)))
    assert [block.locate(channel) for channel in (0, 3, 4, 5, 7)] == [
        (0, 0),
        (0, 3),
        (1, 0),
        (2, 0),
        (2, 2),
    ]
    with pytest.raises(IndexError, match="a row of 8 channels"):
        block.locate(8)


def test_a_cell_that_lies_outside_its_tensor_is_not_read():
    scoring = Scoring((rows_of("o", (1, 9, 4)),), (0, 4))
    with pytest.raises(ValueError, match="size of buffer"):
        scoring.find({"o": np.zeros((1, 8, 4), np.float32)}, 0.5)


@pytest.mark.parametrize(
    "head",
    [
        {"type": "yolox"},
        {"type": "yolov5"},
        {"type": "yolov5", "anchors": ANCHORS},
        {"type": "yolo_fastestv2", "anchors": ANCHORS[1:]},
        {"type": "yolov8"},
        {"type": "nanodet"},
        {"type": "fastestdet"},
        {"type": "centernet"},
        {"type": "decoded"},
    ],
)
def test_every_layout_has_a_decoder(head):
    task = make(head)
    forms = [form.name for form in task._forms]
    decoders = FAMILIES[head["type"]].decoders
    assert set(forms) <= set(decoders)


def test_every_layout_that_is_decoded_by_cell_is_tried():
    tried = {
        (layout.head["type"], layout.task().cell_outputs(layout.specs()).form)
        for layout in LAYOUTS.values()
    }
    assert tried == {
        (family, form)
        for family, own in FAMILIES.items()
        for form, decoder in own.decoders.items()
        if isinstance(decoder, CellDecoder)
    }


@every_layout
def test_the_result_of_cells_is_that_of_the_outputs(layout):
    task = layout.task(score_threshold=0.3, nms={"iou_threshold": 0.6})
    context = image_context(task, 200, 100)
    outputs = fill(layout, 11, 0.3, 0.02, np.float32)
    _, _, chosen = cells_of(layout, task, outputs)
    result = task.postprocess(outputs, context)
    assert same_bits(task.postprocess_cells(chosen, context), result)
    assert len(result)


@every_layout
def test_the_batch_may_be_open(layout):
    task = layout.task()
    assert task.cell_outputs(layout.specs()) is not None
    whole = [spec.shape[0] == 1 for spec in layout.specs()]
    if all(whole):
        assert task.cell_outputs(layout.specs(batch=None)) == task.cell_outputs(layout.specs())


def test_extents_that_the_layout_fixes_may_be_open():
    task = make({"type": "yolov8"})
    specs = [TensorSpec("o", (1, 7, None), np.dtype(np.float32))]
    assert task.cell_outputs(specs).scoring.cells == TOTAL


def test_extents_that_nobody_knows_have_no_cells():
    task = make({"type": "yolov5"})
    assert task.cell_outputs([TensorSpec("o", (1, None, 8), np.dtype(np.float32))]) is None


@pytest.mark.parametrize(
    ("head", "shapes"),
    [
        ({"type": "centernet"}, {"h": (1, 3, 16, 24), "s": (1, 2, 16, 24)}),
        ({"type": "decoded"}, {"d": (1, 9, 6)}),
        ({"type": "decoded"}, {"b": (1, 9, 4), "s": (1, 9), "l": (1, 9)}),
    ],
)
def test_what_is_decoded_as_a_whole_says_so(head, shapes):
    if "s" in shapes and head["type"] == "decoded":
        head = {**head, "outputs": {"scores": "s", "labels": "l"}}
    task = make(head)
    specs = [TensorSpec(name, shape, np.dtype(np.float32)) for name, shape in shapes.items()]
    assert task.cell_outputs(specs) is None
    form = task._bind(specs).form
    cells = Cells(form, np.arange(0), np.zeros((0, 6), np.float32))
    with pytest.raises(ModelError, match=f"the layout '{form}' of the head .* as a whole"):
        task.decode_cells(cells)


def test_cells_of_another_head_are_refused():
    cells = Cells("maps", np.arange(0), np.zeros((0, 8), np.float32))
    with pytest.raises(ModelError, match="the layout 'maps' of the head 'yolox'"):
        make({"type": "yolox"}).decode_cells(cells)


def test_boxes_and_scores_that_do_not_match_are_refused():
    task = make({"type": "decoded"})
    outputs = {"b": np.zeros((1, 9, 4), np.float32), "s": np.zeros((1, 8, 3), np.float32)}
    with pytest.raises(ModelError, match="9 boxes and scores of 8"):
        task.decode(outputs)


@pytest.mark.parametrize("name", ["yolov5 rows", "decoded matrix none 0 1"])
def test_outputs_without_cells_have_no_candidates(name):
    layout = LAYOUTS[name]
    outputs = {
        name: np.zeros((*shape[:-2], 0, shape[-1]), np.float32)
        for name, shape in layout.shapes.items()
    }
    assert len(layout.task().decode(outputs).scores) == 0


def test_cells_are_numbered_scale_by_scale():
    """Only one place of the second scale's last anchor is over the threshold."""
    outputs = {
        f"p{index}": np.full((1, len(own), rows, columns, 8), -9.0, np.float32)
        for index, ((columns, rows), own) in enumerate(zip(CELLS, ANCHORS))
    }
    outputs["p1"][0, 2, 3, 5] = 4.0
    layout = LAYOUTS["yolov5 grids sigmoid"]
    _, _, chosen = cells_of(layout, layout.task(), outputs)
    assert chosen.indices.tolist() == [2 * 96 + 2 * 24 + 3 * 6 + 5]
    assert chosen.rows.tolist() == [[4.0] * 8]
