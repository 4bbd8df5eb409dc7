# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Dynamic extents of a model's inputs, fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from av_compress.compress.optimize.passes import Required, copy_of


class FixShapes(Required):
    """Inputs get the extents that the task feeds; what was computed from shapes is constant then.

    An input that contradicts them stays as it is: whether it fits is the task's question.
    """

    name = "fix shapes"

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Take the extents of inputs by name."""
        self._shapes = shapes

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Fix the inputs' extents; those of everything else follow."""
        changed = copy_of(model)
        said = []
        for value in changed.graph.input:
            wanted = self._shapes.get(value.name)
            dims = value.type.tensor_type.shape.dim
            if wanted is None or not _dynamic(value) or not _fits(value, wanted):
                continue
            for dim, extent in zip(dims, wanted):
                dim.dim_value = extent
            said.append(f"{value.name} is {' x '.join(map(str, wanted))}")
        if not said:
            return model, ""
        for value in changed.graph.output:
            for dim in value.type.tensor_type.shape.dim:
                if not dim.HasField("dim_value"):
                    dim.Clear()
        del changed.graph.value_info[:]
        return changed, ", ".join(said)


def dynamic_inputs(model: onnx.ModelProto) -> list[str]:
    """Describe the inputs whose shape is not fixed, as `name [batch, 3, 480, 640]`."""
    return [f"{v.name} [{', '.join(_extents(v))}]" for v in model.graph.input if _dynamic(v)]


def _extents(value: onnx.ValueInfoProto) -> list[str]:
    dims = value.type.tensor_type.shape.dim
    return [str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in dims]


def _dynamic(value: onnx.ValueInfoProto) -> bool:
    return any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)


def _fits(value: onnx.ValueInfoProto, wanted: Sequence[int]) -> bool:
    dims = value.type.tensor_type.shape.dim
    return len(dims) == len(wanted) and all(
        not dim.HasField("dim_value") or dim.dim_value == extent
        for dim, extent in zip(dims, wanted)
    )
