# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The task on real detectors: recorded detections and average precision."""

import json
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers_task import coco_labels, real_task

from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.engines.pipeline import Pipeline
from av_compress.errors import ModelError
from av_compress.metrics.average_precision import (
    average_precision,
    average_precision_against,
    map_labels,
)
from av_compress.tasks.base import Detections2D, ImageFrame

pytestmark = pytest.mark.shared_data

MODELS = ["nanodet_m_320", "light_person_detector", "fastestdet_352"]
# The recorded figures come of boxes that are not clipped, and of one scale for both axes.
RECORDED_AP = {
    "nanodet_m_320": (0.5335, 0.2900),
    "light_person_detector": (0.5245, 0.2922),
    "fastestdet_352": (0.4750, 0.2459),
}
# The same with boxes clipped to the image, and the exact scale of each axis.
TASK_AP = {
    "nanodet_m_320": (0.5335, 0.2901),
    "light_person_detector": (0.5245, 0.2918),
    "fastestdet_352": (0.4752, 0.2607),
}


@cache
def run(folder: Path, model: str):
    """Each image's placement, candidates in pixels of the input, and final result."""
    task = real_task(model)
    engine = OnnxRuntimeEngine(folder / "camera" / f"{model}.onnx", OrtOptions(intra_op_threads=1))
    task.check_model(engine.inputs, engine.outputs)
    seen = {}
    for path in sorted((folder / "camera" / "coco" / "images").glob("*/*.jpg")):
        prepared = task.preprocess(ImageFrame(cv2.imread(str(path))))
        outputs = engine.run(prepared.tensors).outputs
        seen[path.name] = (
            prepared.context,
            task.decode(outputs),
            task.postprocess(outputs, prepared.context),
        )
    engine.close()
    return task, seen


def as_recorded(model, place, found):
    """Map to the image the way the recorded detections were."""
    scale = np.array([place.image_width / place.width, place.image_height / place.height] * 2)
    if model == "light_person_detector":
        scale[:] = max(place.image_width, place.image_height) / 192
    boxes = (found.boxes * scale).astype(np.float32)
    return Detections2D(boxes, found.scores, found.labels)


@pytest.mark.parametrize("model", MODELS)
def test_recorded_detections_are_reproduced(model, shared_data):
    recorded = json.loads((shared_data / "camera" / "reference_detections.json").read_text())
    _, seen = run(shared_data, model)
    compared = 0
    for name, expected in recorded[model].items():
        place, found, _ = seen[name]
        result = as_recorded(model, place, found)
        confident = result.scores > 0.25
        have = np.column_stack([result.boxes, result.scores, result.labels])[confident]
        want = np.array(expected, np.float64).reshape(-1, 6)
        assert len(have) == len(want), name
        if len(want) == 0:
            continue
        # Rounded scores tie, so that the order of the recorded rows is not unique.
        distance = np.abs(have[:, None] - want[None]) / np.array([0.02] * 4 + [1e-4, 0.5])
        distance = distance.max(axis=2)
        assert (distance.min(axis=1) < 1).all(), name
        assert len(set(distance.argmin(axis=1))) == len(want), name
        compared += len(want)
    assert (
        compared
        == {"nanodet_m_320": 571, "light_person_detector": 86, "fastestdet_352": 1253}[model]
    )


@pytest.mark.parametrize("model", MODELS)
def test_average_precision_on_labels(model, shared_data):
    task, seen = run(shared_data, model)
    files, labels, names = coco_labels(shared_data, "val2017")
    truths = [map_labels(item, names, task.class_names) for item in labels]
    raw = [as_recorded(model, *seen[path.name][:2]) for path in files]
    recorded = average_precision(raw, truths, task.class_names)
    np.testing.assert_allclose((recorded.ap50, recorded.ap), RECORDED_AP[model], atol=1e-4)
    results = [seen[path.name][2] for path in files]
    own = average_precision(results, truths, task.class_names)
    np.testing.assert_allclose((own.ap50, own.ap), TASK_AP[model], atol=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_agrees_with_itself(model, shared_data):
    task, seen = run(shared_data, model)
    results = [result for _, _, result in seen.values()]
    against = average_precision_against(results, results, class_names=task.class_names)
    assert against.ap == 1.0


@pytest.mark.parametrize("model", MODELS)
def test_results_are_what_the_base_type_promises(model, shared_data):
    task, seen = run(shared_data, model)
    for place, _, result in seen.values():
        assert (np.diff(result.scores) <= 0).all()
        assert (result.boxes >= 0).all()
        assert (result.boxes <= [place.image_width, place.image_height] * 2).all()
        assert len(result) <= 100
        assert ((result.labels >= 0) & (result.labels < len(task.class_names))).all()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("recognition/mnist.onnx", "nanodet_m_320"),
        ("recognition/vww_96_float.onnx", "fastestdet_352"),
        ("camera/fastestdet_352.onnx", "nanodet_m_320"),
        ("camera/light_person_detector.onnx", "fastestdet_352"),
    ],
)
def test_other_models_are_refused(file, name, shared_data):
    engine = OnnxRuntimeEngine(shared_data / file)
    task = real_task(name)
    with pytest.raises(ModelError) as caught:
        Pipeline(task, engine)
    assert str(engine.inputs[0]) in str(caught.value)
    with pytest.raises(ModelError) as caught:
        task._bind(engine.outputs)
    assert str(engine.outputs[0]) in str(caught.value)
    assert f"the head '{task.settings.head.type}'" in str(caught.value)
