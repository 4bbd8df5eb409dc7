# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Real models with inputs that they are made for, from recorded data where there is some."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnx

from av_compress.compress.observe.calibrate import MagnitudeProbe
from av_compress.compress.optimize.prepare import prepare_model

Feeds = dict[str, np.ndarray]

DETECTORS = ("nanodet_m_320", "light_person_detector", "fastestdet_352")
# Name -> folder; every model of the shared data.
MODELS = {
    **dict.fromkeys(DETECTORS, "camera"),
    **dict.fromkeys(("tiny_pfe", "tiny_rpn", "tiny_e2e"), "lidar"),
    "pilotnet": "control",
    **dict.fromkeys(("vww_96_float", "road_segmentation_adas_0001", "mnist"), "recognition"),
    "kws_ref_model_float32": "voice",
}
_MEAN, _STD = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])


@cache
def real_model(data: Path, name: str) -> onnx.ModelProto:
    """Return a model, prepared; it must not be changed."""
    return prepare_model(data / MODELS[name] / f"{name}.onnx").model


@cache
def real_magnitudes(data: Path, name: str) -> dict[str, float]:
    """Return the largest magnitudes over the inputs."""
    probe = MagnitudeProbe(real_model(data, name), threads=1)
    for feeds in real_inputs(data, name):
        probe.observe(feeds)
    return dict(probe.magnitudes)


def static_batch(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
    """Return a model whose dynamic extents are those of an input, all other shapes inferred."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dim, extent in zip(value.type.tensor_type.shape.dim, feeds[value.name].shape):
            dim.dim_value = extent
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(fixed)


@cache
def real_inputs(data: Path, name: str) -> list[Feeds]:
    """Return inputs of a model: three or fewer, recorded where the data has any."""
    return _INPUTS[name](data)


def _pictures(data: Path, size: tuple[int, int]) -> list[np.ndarray]:
    # Large inputs are slow to run.
    count = 3 if size[0] * size[1] < 200_000 else 1
    paths = sorted((data / "camera/coco/images").rglob("*.jpg"))[:count]
    return [cv2.resize(cv2.imread(str(path)), size) for path in paths]


def _images(
    input_name: str,
    size: tuple[int, int],
    change: Callable[[np.ndarray], np.ndarray] = lambda picture: picture,
    layout: str = "nchw",
) -> Callable[[Path], list[Feeds]]:
    def make(data: Path) -> list[Feeds]:
        found = []
        for picture in _pictures(data, size):
            array = change(picture.astype(np.float64)).astype(np.float32)[None]
            found.append({input_name: array.transpose(0, 3, 1, 2) if layout == "nchw" else array})
        return found

    return make


def _pilotnet(data: Path) -> list[Feeds]:
    found = []
    for path in sorted((data / "control/pilotnet_images").glob("*.png")):
        rows = cv2.imread(str(path))[60:-25]
        yuv = cv2.cvtColor(cv2.resize(rows, (200, 66)), cv2.COLOR_BGR2YUV)
        found.append({"image": yuv.astype(np.float32)[None]})
    return found


def _pillars(data: Path, frame: str) -> Feeds:
    """Group a cloud into pillars as the network was trained: 20 points of 9 features at most."""
    cloud = np.fromfile(data / f"lidar/kitti/velodyne/{frame}.bin", np.float32).reshape(-1, 4)
    low, high = np.array([0.0, -39.68, -3.0]), np.array([69.12, 39.68, 1.0])
    cloud = cloud[((cloud[:, :3] >= low) & (cloud[:, :3] < high)).all(axis=1)][::2]
    cells = ((cloud[:, :2] - low[:2]) / 0.32).astype(np.int64)
    index = cells[:, 1] * 216 + cells[:, 0]
    order = np.argsort(index, kind="stable")
    places, starts = np.unique(index[order], return_index=True)
    voxels = np.zeros((len(places), 20, 9), np.float32)
    for row, group in enumerate(np.split(cloud[order], starts[1:])):
        points = group[:20]
        centre = low[:2] + 0.32 * (np.array([places[row] % 216, places[row] // 216]) + 0.5)
        offsets = points[:, :3] - points[:, :3].mean(axis=0)
        voxels[row, : len(points)] = np.hstack([points, offsets, points[:, :2] - centre])
    return {"voxels": voxels, "voxel_idxs": places}


def _e2e(data: Path) -> list[Feeds]:
    return [_pillars(data, "000010")]


def _pfe(data: Path) -> list[Feeds]:
    return [{"voxels": feeds["voxels"]} for feeds in _e2e(data)]


def _rpn(data: Path) -> list[Feeds]:
    """Scatter what the encoder makes of a real cloud."""
    from helpers_models import run

    feeds = _pillars(data, "000020")
    (made,) = run(real_model(data, "tiny_pfe"), {"voxels": feeds["voxels"]})
    canvas = np.zeros((248 * 216, 32), np.float32)
    canvas[feeds["voxel_idxs"]] = made
    return [{"spatial_features": canvas.T.reshape(1, 32, 248, 216).copy()}]


def _mnist(data: Path) -> list[Feeds]:
    digit = np.zeros((28, 28), np.uint8)
    cv2.putText(digit, "7", (6, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2)
    return [{"Input3": digit.astype(np.float32)[None, None]}]


def _speech(data: Path) -> list[Feeds]:
    """Make coefficients as loud speech has: the first is large, the others fall off."""
    rng = np.random.default_rng(0)
    spread = 20.0 / (1.0 + np.arange(10))
    frames = [rng.normal(0.0, spread, (1, 49, 10)).astype(np.float32) for _ in range(3)]
    return [{"input_1": frame[..., None]} for frame in frames]


_INPUTS: dict[str, Callable[[Path], list[Feeds]]] = {
    "nanodet_m_320": _images("input.1", (320, 320), lambda p: (p - _MEAN) / _STD),
    "light_person_detector": _images("images", (192, 192)),
    "fastestdet_352": _images("input.1", (352, 352), lambda p: p / 255.0),
    "vww_96_float": _images("input_1", (96, 96), lambda p: p[..., ::-1] / 255.0, "nhwc"),
    "road_segmentation_adas_0001": _images("data", (896, 512), layout="nhwc"),
    "pilotnet": _pilotnet,
    "mnist": _mnist,
    "kws_ref_model_float32": _speech,
    "tiny_pfe": _pfe,
    "tiny_rpn": _rpn,
    "tiny_e2e": _e2e,
}
