# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A convolutional network made wider without changing what it computes, as Net2Net does.

Every channel between the first and the prediction convolutions becomes two equal ones, next to
each other. A convolution reads each pair with weights whose sum is the old weight (the halves
differ by noise that cancels), so a real detector of 0.9 million parameters becomes one of 3.5
million that finds the same objects. Source: Chen et al., Net2Net, ICLR 2016, section 2.2.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

# Operators that treat every channel alike, so that equal channels stay equal.
CHANNEL_WISE = frozenset(
    {"Sigmoid", "Relu", "LeakyRelu", "Mul", "Add", "Concat", "MaxPool", "AveragePool", "Resize"}
)
# Of the cancelling noise, as a share of a weight's size.
NOISE = 0.5


def widen(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """Return `model` with twice the channels; inputs and outputs stay as they are.

    Raises:
        ValueError: a node between convolutions does not treat its channels alike.

    """
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    graph, rng, wide = wider.graph, np.random.default_rng(seed), set()
    weights = {tensor.name: tensor for tensor in graph.initializer}
    predictions = _predictions(graph)
    for node in graph.node:
        reads_wide = [name in wide for name in node.input]
        if node.op_type == "Conv":
            writes_wide = node.output[0] not in predictions
            _widen_conv(node, weights, reads_wide[0], writes_wide, rng)
            if writes_wide:
                wide.add(node.output[0])
        elif any(reads_wide):
            constants = [name in weights or not name for name in node.input]
            even = all(w or c for w, c in zip(reads_wide, constants))
            if node.op_type not in CHANNEL_WISE or not even:
                raise ValueError(f"{node.op_type} {node.name} cannot be made wider")
            wide.update(node.output)
    del graph.value_info[:]
    return wider


def _predictions(graph: onnx.GraphProto) -> set[str]:
    """Return the convolutions' outputs that reach the graph's outputs without another one."""
    seen, found = {value.name for value in graph.output}, set()
    for node in reversed(graph.node):
        if seen.intersection(node.output):
            if node.op_type == "Conv":
                found.update(node.output)
            else:
                seen.update(node.input)
    return found


def _widen_conv(
    node: onnx.NodeProto,
    weights: dict[str, onnx.TensorProto],
    reads_wide: bool,
    writes_wide: bool,
    rng: np.random.Generator,
) -> None:
    weight = numpy_helper.to_array(weights[node.input[1]])
    group = next((a for a in node.attribute if a.name == "group"), None)
    depthwise = group is not None and group.i > 1
    if depthwise and not (reads_wide and writes_wide and weight.shape[1] == 1):
        raise ValueError(f"Conv {node.name} cannot be made wider")
    if writes_wide:
        weight = weight.repeat(2, axis=0)
        if len(node.input) > 2:
            bias = numpy_helper.to_array(weights[node.input[2]]).repeat(2)
            weights[node.input[2]].CopyFrom(numpy_helper.from_array(bias, node.input[2]))
    if depthwise:
        group.i *= 2
    elif reads_wide:
        noise = NOISE * weight * rng.uniform(-1, 1, weight.shape)
        halves = np.stack([weight / 2 + noise, weight / 2 - noise], axis=2)
        weight = halves.reshape(weight.shape[0], -1, *weight.shape[2:]).astype(np.float32)
    weights[node.input[1]].CopyFrom(numpy_helper.from_array(weight, node.input[1]))
