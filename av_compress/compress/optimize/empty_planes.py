# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The planes that voxels are scattered to, made where they are needed instead of stored."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from av_compress.compress.optimize.passes import Droppable, copy_of
from av_compress.tensors import Array

_SCATTERS = frozenset({"ScatterND", "ScatterElements"})
# Bytes; what is smaller is not worth a node.
_LEAST = 1 << 16


class MakeEmptyPlanes(Droppable):
    """A large constant of one value that is scattered into becomes a ConstantOfShape.

    Constant folding stores the empty plane of a bird's eye view: megabytes of zeros in every form
    of a bundle, which compilers fold again where they want to.
    """

    name = "make empty planes"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Replace the constants."""
        planes = _planes(model.graph)
        if not planes:
            return model, ""
        changed = copy_of(model)
        graph = changed.graph
        kept = [tensor for tensor in graph.initializer if tensor.name not in planes]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        made = []
        for name, values in planes.items():
            shape = numpy_helper.from_array(np.array(values.shape, np.int64), f"{name}_extents")
            graph.initializer.append(shape)
            value = numpy_helper.from_array(values.reshape(-1)[:1].copy(), "value")
            made.append(
                helper.make_node(
                    "ConstantOfShape", [shape.name], [name], name=f"{name}_made", value=value
                )
            )
        nodes = [*made, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        saved = sum(values.nbytes for values in planes.values())
        return changed, f"{len(planes)} of {saved} bytes"


def _planes(graph: onnx.GraphProto) -> dict[str, Array]:
    """Return the constants that nothing but scatters reads, as what they write to."""
    targets = {n.input[0] for n in graph.node if n.op_type in _SCATTERS}
    others = {
        name
        for node in graph.node
        for position, name in enumerate(node.input)
        if position or node.op_type not in _SCATTERS
    } | {value.name for value in graph.output}
    found = {}
    for tensor in graph.initializer:
        if tensor.name in targets - others:
            values = numpy_helper.to_array(tensor)
            if values.nbytes >= _LEAST and (values == values.reshape(-1)[0]).all():
                found[tensor.name] = values
    return found
