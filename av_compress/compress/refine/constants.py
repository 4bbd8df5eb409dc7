# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Constants of a model that is being changed."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from av_compress.tensors import Array


def constant_value(model: onnx.ModelProto, name: str) -> Array:
    """Return a constant's value.

    Raises:
        KeyError: there is no such constant.

    """
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    raise KeyError(name)


def set_input(model: onnx.ModelProto, node: onnx.NodeProto, position: int, value: Array) -> None:
    """Give a node a constant of its own as an input: another may share the one that it had."""
    while len(node.input) <= position:
        node.input.append("")
    old = node.input[position]
    shared = sum(list(n.input).count(old) for n in model.graph.node) > 1 if old else True
    name = f"{node.name}_{old or position}" if shared else old
    node.input[position] = name
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
            return
    model.graph.initializer.append(numpy_helper.from_array(value, name))
