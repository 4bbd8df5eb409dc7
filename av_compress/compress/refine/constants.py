# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Constants of a model that is being changed."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from av_compress.compress.graph import captured
from av_compress.compress.names import free_name, tensor_names
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
    if old and not _is_shared(model, old):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == old)
        tensor.CopyFrom(numpy_helper.from_array(value, old))
        return
    name = free_name(f"{node.name}_{old or position}", tensor_names(model.graph))
    node.input[position] = name
    model.graph.initializer.append(numpy_helper.from_array(value, name))


def _is_shared(model: onnx.ModelProto, name: str) -> bool:
    """Tell whether a constant is read more than once, or is an output of the model."""
    nodes = model.graph.node
    readers = sum(list(node.input).count(name) + (name in captured(node)) for node in nodes)
    return readers > 1 or any(value.name == name for value in model.graph.output)
