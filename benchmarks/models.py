# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A network to measure on: the layers of a small YOLOv8, with seeded random weights.

    python benchmarks/models.py OUT.onnx [--size 640]

Convolution + SiLU throughout, C2f blocks (split, residual bottlenecks, concatenation), SPPF, an
upsampling and a downsampling neck, and a decoupled head on strides 8, 16 and 32 that regresses
four distances instead of their distributions. Exported the way such detectors usually are: SiLU as
Sigmoid and Mul, batch normalisation folded, opset 17.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
STRIDES = (8, 16, 32)
# Keeps the variance of activations: SiLU passes 0.356 of a unit normal's second moment.
SILU_GAIN = 1.676


def yolov8n_like(size: int = 640, classes: int = 80, seed: int = 0) -> onnx.ModelProto:
    """Make the network.

    Args:
        size: height and width of the input, a multiple of 32.
        classes: number of class scores.
        seed: of the weights.

    Returns:
        a model of about 3 million parameters: images float32 [1, 3, size, size] in 0..1 ->
        predictions float32 [1, 4 + classes, cells], centre and size in pixels, then scores.

    """
    if size % STRIDES[-1]:
        raise ValueError(f"size {size} is not a multiple of {STRIDES[-1]}")
    writer = _Writer(seed)
    features = _neck(writer, *_backbone(writer, "images"))
    _head(writer, features, size, classes)
    return writer.model(size, 4 + classes, sum((size // stride) ** 2 for stride in STRIDES))


class _Writer:
    """Appends layers; every method returns the name of the tensor that it makes."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._channels = {"images": 3}

    def conv(self, source: str, channels: int, kernel: int, stride: int, name: str) -> str:
        """Convolve."""
        inputs = self._channels[source]
        deviation = SILU_GAIN / np.sqrt(inputs * kernel * kernel)
        weight = self._rng.normal(0.0, deviation, (channels, inputs, kernel, kernel))
        bias = self._rng.normal(0.0, 0.1, channels)
        self._channels[name] = channels
        return self.add(
            "Conv",
            [
                source,
                self.constant(f"{name}.weight", weight.astype(np.float32)),
                self.constant(f"{name}.bias", bias.astype(np.float32)),
            ],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )

    def block(self, source: str, channels: int, kernel: int, stride: int, name: str) -> str:
        """Convolution and SiLU."""
        made = self.conv(source, channels, kernel, stride, f"{name}/conv")
        gate = self.add("Sigmoid", [made], f"{name}/act/Sigmoid")
        self._channels[f"{name}/act/Mul"] = channels
        return self.add("Mul", [made, gate], f"{name}/act/Mul")

    def c2f(self, source: str, channels: int, repeats: int, shortcut: bool, name: str) -> str:
        """Split, `repeats` bottlenecks in a row, and everything concatenated."""
        half = channels // 2
        made = self.block(source, channels, 1, 1, f"{name}/cv1")
        parts = self.halve(made, half, f"{name}/Split")
        self._channels.update(dict.fromkeys(parts, half))
        for i in range(repeats):
            inner = self.block(parts[-1], half, 3, 1, f"{name}/m.{i}/cv1")
            inner = self.block(inner, half, 3, 1, f"{name}/m.{i}/cv2")
            if shortcut:
                self._channels[f"{name}/m.{i}/Add"] = half
                inner = self.add("Add", [parts[-1], inner], f"{name}/m.{i}/Add")
            parts.append(inner)
        return self.block(self.concat(parts, f"{name}/Concat"), channels, 1, 1, f"{name}/cv2")

    def sppf(self, source: str, channels: int, name: str) -> str:
        """Three max pools in a row, concatenated."""
        parts = [self.block(source, channels // 2, 1, 1, f"{name}/cv1")]
        for i in range(3):
            made = f"{name}/MaxPool_{i}"
            self._channels[made] = channels // 2
            window = {"kernel_shape": [5, 5], "pads": [2] * 4, "strides": [1, 1]}
            parts.append(self.add("MaxPool", [parts[-1]], made, **window))
        return self.block(self.concat(parts, f"{name}/Concat"), channels, 1, 1, f"{name}/cv2")

    def upsample(self, source: str, name: str) -> str:
        """Double height and width, nearest neighbour."""
        scales = self.constant(f"{name}/scales", np.array([1, 1, 2, 2], np.float32))
        self._channels[name] = self._channels[source]
        how = {
            "mode": "nearest",
            "nearest_mode": "floor",
            "coordinate_transformation_mode": "asymmetric",
        }
        return self.add("Resize", [source, "", scales], name, **how)

    def halve(self, source: str, half: int, name: str) -> list[str]:
        """Split 2 x `half` channels."""
        sizes = self.constant(f"{name}/sizes", np.array([half, half], np.int64))
        parts = [f"{name}_output_{i}" for i in range(2)]
        self._nodes.append(helper.make_node("Split", [source, sizes], parts, name, axis=1))
        return parts

    def concat(self, sources: list[str], name: str) -> str:
        """Concatenate channels."""
        self._channels[name] = sum(self._channels[source] for source in sources)
        return self.add("Concat", sources, name, axis=1)

    def add(self, op_type: str, inputs: list[str], name: str, **attributes: object) -> str:
        """Append a node that makes the tensor `name`."""
        self._nodes.append(helper.make_node(op_type, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """Store a constant."""
        self._constants.append(numpy_helper.from_array(value, name))
        return name

    def model(self, size: int, rows: int, cells: int) -> onnx.ModelProto:
        """Close the graph."""
        graph = helper.make_graph(
            self._nodes,
            "yolov8n_like",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size, size])],
            [helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [1, rows, cells])],
            self._constants,
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=8,
            producer_name="av_compress benchmarks",
        )


def _backbone(writer: _Writer, images: str) -> tuple[str, str, str]:
    made = writer.block(images, 16, 3, 2, "/model.0")
    made = writer.c2f(writer.block(made, 32, 3, 2, "/model.1"), 32, 1, True, "/model.2")
    third = writer.c2f(writer.block(made, 64, 3, 2, "/model.3"), 64, 2, True, "/model.4")
    fourth = writer.c2f(writer.block(third, 128, 3, 2, "/model.5"), 128, 2, True, "/model.6")
    fifth = writer.c2f(writer.block(fourth, 256, 3, 2, "/model.7"), 256, 1, True, "/model.8")
    return third, fourth, writer.sppf(fifth, 256, "/model.9")


def _neck(writer: _Writer, third: str, fourth: str, fifth: str) -> tuple[str, str, str]:
    up = writer.concat([writer.upsample(fifth, "/model.10/Resize"), fourth], "/model.11/Concat")
    middle = writer.c2f(up, 128, 1, False, "/model.12")
    up = writer.concat([writer.upsample(middle, "/model.13/Resize"), third], "/model.14/Concat")
    small = writer.c2f(up, 64, 1, False, "/model.15")
    down = writer.concat([writer.block(small, 64, 3, 2, "/model.16"), middle], "/model.17/Concat")
    medium = writer.c2f(down, 128, 1, False, "/model.18")
    down = writer.concat([writer.block(medium, 128, 3, 2, "/model.19"), fifth], "/model.20/Concat")
    return small, medium, writer.c2f(down, 256, 1, False, "/model.21")


def _head(writer: _Writer, features: tuple[str, str, str], size: int, classes: int) -> None:
    boxes, scores = [], []
    for i, (feature, stride) in enumerate(zip(features, STRIDES)):
        found = {}
        for branch, width, channels in (("cv2", 64, 4), ("cv3", 80, classes)):
            name = f"/model.22/{branch}.{i}"
            made = writer.block(feature, width, 3, 1, f"{name}/{branch}.{i}.0")
            made = writer.block(made, width, 3, 1, f"{name}/{branch}.{i}.1")
            made = writer.conv(made, channels, 1, 1, f"{name}/{branch}.{i}.2/Conv")
            cells = (size // stride) ** 2
            shape = writer.constant(f"{name}/shape", np.array([1, channels, cells], np.int64))
            found[branch] = writer.add("Reshape", [made, shape], f"{name}/Reshape")
        boxes.append(found["cv2"])
        scores.append(found["cv3"])
    distances = writer.add("Concat", boxes, "/model.22/Concat", axis=2)
    decoded = _decode(writer, distances, size)
    joined = writer.add("Concat", scores, "/model.22/Concat_1", axis=2)
    squashed = writer.add("Sigmoid", [joined], "/model.22/Sigmoid")
    writer.add("Concat", [decoded, squashed], "predictions", axis=1)


def _decode(writer: _Writer, distances: str, size: int) -> str:
    """Distances from cell centres to the four sides, in cells -> centre and size in pixels."""
    centres, strides = [], []
    for stride in STRIDES:
        axis = np.arange(size // stride, dtype=np.float32) + 0.5
        centres.append(np.stack([grid.ravel() for grid in np.meshgrid(axis, axis)]))
        strides.append(np.full(axis.size**2, stride, np.float32))
    grid = writer.constant("/model.22/centres", np.concatenate(centres, axis=1)[None])
    stride = writer.constant("/model.22/strides", np.concatenate(strides)[None, None])
    half = writer.constant("/model.22/half", np.array(0.5, np.float32))
    sides = writer.halve(distances, 2, "/model.22/Split")
    low = writer.add("Sub", [grid, sides[0]], "/model.22/Sub")
    high = writer.add("Add", [grid, sides[1]], "/model.22/Add")
    doubled = writer.add("Add", [low, high], "/model.22/Add_1")
    centre = writer.add("Mul", [doubled, half], "/model.22/Mul")
    extent = writer.add("Sub", [high, low], "/model.22/Sub_1")
    joined = writer.add("Concat", [centre, extent], "/model.22/Concat_2", axis=1)
    return writer.add("Mul", [joined, stride], "/model.22/Mul_1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="ONNX file to write")
    parser.add_argument("--size", type=int, default=640, help="height and width of the input")
    args = parser.parse_args()
    args.output.write_bytes(yolov8n_like(args.size).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
