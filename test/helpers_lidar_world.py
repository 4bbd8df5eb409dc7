# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A LiDAR detector made by hand, and clouds in which it finds what is there.

Its pillars tell how high their points reach; where that is over 0.7 m, it sees a car in the middle
of the pillar. All other channels are noise, as are a few millimetres of its boxes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import yaml
from helpers_kitti import STRAIGHT, write_frame
from onnx import TensorProto, helper, numpy_helper

TASK = {
    "kind": "lidar_detection",
    "class_names": ["car", "pedestrian"],
    "input": {
        "lower": [0, -16, -2],
        "upper": [32, 16, 3],
        "voxel_size": [0.5, 0.5, 5],
        "encoder": {
            "type": "voxels",
            "max_points": 8,
            "max_voxels": 1500,
            "padding": "repeat_last",
        },
    },
    "head": {
        "type": "center",
        "stride": 1,
        "activation": "none",
        "maps": {"reg": ["dx", "dy", "z", "log_length", "log_width", "log_height", "sin", "cos"]},
    },
}
SIZE = (3.9, 1.6, 1.5)
_CHANNELS, _CELLS = 16, 64
# Ten times as many pixels as in `helpers_kitti`: no car is too small to count.
_SHARP = STRAIGHT.replace("P2: 100 0 100 0 0 100 50 0", "P2: 1000 0 1000 0 0 1000 500 0")
_PIXELS = (2000, 1000)


def scene(seed: int, cars: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return points [n, 4] of a street with cars, and the cars' boxes [cars, 7]."""
    rng = np.random.default_rng(seed)
    ground = np.c_[rng.uniform([2, -14], [31, 14], (1200, 2)), rng.normal(-0.7, 0.02, 1200)]
    places = [(8, 1), (14, -8), (19, 7), (26, -2), (28, 12)]
    chosen = rng.permutation(len(places))[:cars]
    # In the middle of a pillar.
    centers = np.array([places[i] for i in chosen], float) + rng.integers(-1, 2, (cars, 2)) + 0.25
    tops = rng.uniform(0.9, 1.3, cars)
    posts = [
        np.c_[
            x + rng.uniform(-0.2, 0.2, 8), y + rng.uniform(-0.2, 0.2, 8), np.linspace(0.2, top, 8)
        ]
        for (x, y), top in zip(centers, tops)
    ]
    points = np.concatenate([ground, *posts])
    boxes = np.c_[centers, np.full(cars, 0.05), np.tile(SIZE, (cars, 1)), np.zeros(cars)]
    return np.c_[points, rng.uniform(size=len(points))].astype(np.float32), boxes


def label_line(box: np.ndarray, name: str = "Car") -> str:
    """Write a box as KITTI does, for the straight calibration of `helpers_kitti`."""
    x, y, z, length, width, height, yaw = box
    place = (-y, -(z - height / 2), x)
    numbers = (height, width, length, *place, -yaw - np.pi / 2)
    return f"{name} 0 0 0 30 20 90 80 " + " ".join(f"{value:.4f}" for value in numbers)


def write_kitti(root: Path, frames: int, first: int = 0) -> None:
    for index in range(first, first + frames):
        points, boxes = scene(index)
        lines = [label_line(box) for box in boxes]
        write_frame(root, f"{index:06d}", points, "\n".join(lines), _SHARP, _PIXELS)


def pillar_encoder() -> onnx.ModelProto:
    """Make voxels [v, 8, 9] -> features [v, 16]."""
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 0.01, (9, _CHANNELS)).astype(np.float32)
    weights[:, 0] = [0, 0, 1, 0, 0, 0, 0, 0, 0]
    nodes = [
        helper.make_node("MatMul", ["voxels", "weights"], ["linear"]),
        helper.make_node("Relu", ["linear"], ["positive"]),
        helper.make_node("ReduceMax", ["positive", "axis"], ["features"], keepdims=0),
    ]
    constants = {"weights": weights, "axis": np.array([1], np.int64)}
    return _model(
        nodes,
        [("voxels", ["v", 8, 9])],
        [("features", ["v", _CHANNELS])],
        constants,
    )


def backbone() -> onnx.ModelProto:
    """Make plane [1, 16, 64, 64] -> heatmap [1, 2, 64, 64] and reg [1, 8, 64, 64]."""
    rng = np.random.default_rng(2)
    constants: dict[str, np.ndarray] = {}
    nodes, last = [], "plane"
    for number in range(3):
        weights = rng.normal(0, 0.01, (_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32)
        weights[:, :, 1, 1] += np.eye(_CHANNELS, dtype=np.float32)
        # What tells of height is read by nothing else, and reads nothing else.
        weights[0, 1:], weights[0, 0] = 0, 0
        weights[0, 0, 1, 1] = 1
        constants[f"w{number}"] = weights
        nodes += [
            helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{number}"], [f"r{number}"]),
        ]
        last = f"r{number}"
    heat = np.zeros((2, _CHANNELS, 1, 1), np.float32)
    heat[0, 0], constants["heat_bias"] = 6.0, np.array([-4.2, -8.0], np.float32)
    box = rng.normal(0, 0.002, (8, _CHANNELS, 1, 1)).astype(np.float32)
    constants |= {"heat": heat, "box": box}
    constants["box_bias"] = np.array([0.5, 0.5, 0.05, *np.log(SIZE), 0, 1], np.float32)
    nodes += [
        helper.make_node("Conv", [last, "heat", "heat_bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["heatmap"]),
        helper.make_node("Conv", [last, "box", "box_bias"], ["reg"]),
    ]
    plane = [_CELLS, _CELLS]
    return _model(
        nodes,
        [("plane", [1, _CHANNELS, *plane])],
        [("heatmap", [1, 2, *plane]), ("reg", [1, 8, *plane])],
        constants,
    )


def write_models(folder: Path) -> None:
    """Write encoder.onnx, backbone.onnx, and task.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(pillar_encoder(), folder / "encoder.onnx")
    onnx.save(backbone(), folder / "backbone.onnx")
    (folder / "task.yaml").write_text(yaml.safe_dump(TASK))


def _model(nodes, inputs, outputs, constants) -> onnx.ModelProto:
    def values(entries):
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in entries]

    graph = helper.make_graph(
        nodes,
        "made",
        values(inputs),
        values(outputs),
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 19)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model
