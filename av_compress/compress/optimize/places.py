# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Where values go in operators that only place them: found by moving the values' own numbers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from av_compress.compress.graph import GraphIndex
from av_compress.tensors import Array

# Float32 counts exactly to 2 ** 24.
_MOST = 2**23
# For a dynamic batch: what is the same for every frame of two holds for any number of them.
_FRAMES = 2
_UNARY = frozenset(
    {
        *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"),
        *("Slice", "Gather", "Split", "SpaceToDepth", "DepthToSpace"),
    }
)


class Places:
    """Follows values of one tensor through operators that give them other places."""

    def __init__(self, index: GraphIndex) -> None:
        """Look into a model with inferred shapes."""
        self._index = index
        self._roots: dict[str, str] = {}

    def root(self, name: str) -> str:
        """Return the tensor that all values of `name` come from, `name` itself at the least."""
        if name not in self._roots:
            self._roots[name] = name
            self._roots[name] = self._find_root(name)
        return self._roots[name]

    def between(self, root: str, name: str) -> list[onnx.NodeProto]:
        """Return the nodes between a tensor and its root, in graph order."""
        names, stack = set[str](), [name]
        while stack:
            current = stack.pop()
            if current == root or current in names:
                continue
            names.add(current)
            producer = self._index.producers.get(current)
            if producer is not None:
                stack.extend(_data(producer))
        return [n for n in self._index.graph.node if any(output in names for output in n.output)]

    def extents(self, name: str) -> tuple[int, ...] | None:
        """Return a tensor's extents with two frames where their number is dynamic."""
        shape = self._index.shape(name)
        if not shape or None in shape[1:]:
            return None
        return tuple(_FRAMES if extent is None else extent for extent in shape)

    def target_shape(self, name: str) -> Array:
        """Return the constant with which Reshape makes a tensor's shape, -1 for dynamic frames."""
        shape = self._index.shape(name) or ()
        return np.array([-1 if extent is None else extent for extent in shape], np.int64)

    def moved(self, root: str, name: str) -> Array | None:
        """Return the place in `root`, counted in C order, of every value of `name`.

        int64, shaped as `name` is; None where shapes are unknown, too large, or where the
        operators in between do not work on two frames, though their number is dynamic.
        """
        shape = self.extents(root)
        if shape is None or self.extents(name) is None or np.prod(shape) > _MOST:
            return None
        nodes = self.between(root, name)
        read = {n for node in nodes for n in node.input}
        constants = [t for t in self._index.graph.initializer if t.name in read]
        graph = helper.make_graph(
            nodes,
            "places",
            [helper.make_tensor_value_info(root, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
            constants,
        )
        opsets = self._index.model.opset_import
        model = helper.make_model(graph, opset_imports=opsets)
        numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        try:
            made = next(iter(ReferenceEvaluator(model).run([name], {root: numbers})))
        except Exception:  # A reshape to one frame fails on two, in some way of numpy's.
            return None
        return np.asarray(made, np.int64)

    def _find_root(self, name: str) -> str:
        node = self._index.producers.get(name)
        if node is None or node.domain:
            return name
        if node.op_type == "Concat":
            roots = {self.root(source) for source in node.input}
            return roots.pop() if len(roots) == 1 else name
        if node.op_type not in _UNARY:
            return name
        constant = all(n in self._index.constants for n in node.input[1:] if n)
        return self.root(node.input[0]) if constant else name


def _data(node: onnx.NodeProto) -> list[str]:
    return list(node.input) if node.op_type == "Concat" else [node.input[0]]
