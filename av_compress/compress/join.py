# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""One model of two: an encoder of pillars, and the network that reads their plane.

PointPillars and CenterPoint are often exported in two parts, with the scatter between them left to
the program that runs them (det3d, Autoware, OpenPCDet). As one graph they are compressed, proven
and served like any other model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import onnx
from onnx import TensorProto, checker, compose, helper, inliner

from av_compress.compress.optimize.passes import copy_of, opset_of
from av_compress.errors import ModelError
from av_compress.tasks.lidar_detection.grid import Grid

_INDEX_TYPES = {"int32": TensorProto.INT32, "int64": TensorProto.INT64}
# ScatterND came with it.
_OLDEST_OPSET = 11
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class _Seam:
    """What goes from one part to the other.

    Attributes:
        features: the encoder's output.
        rank: its rank: [voxels, channels] or [voxels, 1, channels].
        voxels: its first extent: a number, or its name where it is open.
        channels: of a voxel.
        kind: element type.
        plane: the backbone's input, [1, channels, rows, columns].

    """

    features: str
    rank: int
    voxels: int | str
    channels: int
    kind: int
    plane: str


def join_pillar_model(
    encoder: onnx.ModelProto,
    backbone: onnx.ModelProto,
    grid: Grid,
    indices: str = "indices",
    index_dtype: Literal["int64", "int32"] = "int64",
) -> onnx.ModelProto:
    """Join an encoder and a backbone by a scatter.

    The plane is 0 where there is no voxel; where several lie in one cell they must be equal (the
    task's `padding: repeat_last`), or the last one may win.

    Args:
        encoder: its only output is [voxels, channels] or [voxels, 1, channels].
        backbone: its only input is [1, channels, rows, columns].
        grid: the range in pillars.
        indices: name of the new input [voxels]: y * columns + x of each (`index_form: linear`).
        index_dtype: element type of the new input.

    Returns:
        a model with the encoder's inputs, the new one behind them, and the backbone's outputs;
        names inside begin with `encoder/`, `scatter/` and `backbone/`.

    Raises:
        ModelError: opsets, shapes, types or names do not go together.

    """
    imports = _imports(encoder, backbone)
    first, second = _inlined(encoder).graph, _inlined(backbone).graph
    seam = _seam(first, second, grid)
    _refuse_clashes([*_inputs(first), indices], second)
    front = compose.add_prefix_graph(first, "encoder/", rename_inputs=False)
    back = compose.add_prefix_graph(second, "backbone/", rename_outputs=False)
    index = helper.make_tensor_value_info(indices, _INDEX_TYPES[index_dtype], [seam.voxels])
    nodes, constants = _scatter(seam, grid, index)
    graph = helper.make_graph(
        [*front.node, *nodes, *back.node],
        "joined",
        [*front.input, index],
        list(back.output),
        [*front.initializer, *constants, *back.initializer],
        value_info=[*front.value_info, *front.output, *back.input, *back.value_info],
        sparse_initializer=[*front.sparse_initializer, *back.sparse_initializer],
    )
    version = max(encoder.ir_version, backbone.ir_version)
    joined = helper.make_model(graph, opset_imports=imports, ir_version=version)
    try:
        checker.check_model(joined, full_check=True)
    except Exception as error:  # The checker's errors have no common base class.
        raise ModelError(
            f"the joined model is not valid: {' '.join(str(error).split())[:300]}"
        ) from error
    return joined


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    return inliner.inline_local_functions(copy_of(model)) if model.functions else model


def _imports(encoder: onnx.ModelProto, backbone: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    ours, theirs = opset_of(encoder), opset_of(backbone)
    if ours != theirs:
        raise ModelError(
            f"the encoder has opset {ours}, the backbone opset {theirs}; export both again with "
            "one opset"
        )
    if ours < _OLDEST_OPSET:
        raise ModelError(
            f"the encoder and the backbone have opset {ours}; from {_OLDEST_OPSET} on two models "
            "can be joined: export both again"
        )
    versions: dict[str, int] = {}
    for entry in (*encoder.opset_import, *backbone.opset_import):
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ModelError(
                f"the encoder and the backbone have different versions of the operators of "
                f"{entry.domain}: {versions[domain]} and {entry.version}; export both alike"
            )
    return [helper.make_opsetid(domain, version) for domain, version in versions.items()]


def _inputs(graph: onnx.GraphProto) -> list[str]:
    """Name what a graph must be given: old models list their constants among the inputs."""
    constants = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in constants]


def _seam(encoder: onnx.GraphProto, backbone: onnx.GraphProto, grid: Grid) -> _Seam:
    names = _inputs(backbone)
    if len(encoder.output) != 1 or len(names) != 1:
        made = ", ".join(value.name for value in encoder.output)
        raise ModelError(
            f"the encoder makes {made or 'nothing'}, the backbone reads "
            f"{', '.join(names) or 'nothing'}; one tensor each can be joined"
        )
    (features,) = encoder.output
    plane = next(value for value in backbone.input if value.name == names[0])
    channels = _shared_channels(features, plane)
    _check_plane(plane, channels, grid)
    kind = features.type.tensor_type.elem_type
    if kind != plane.type.tensor_type.elem_type or kind not in _FLOATS:
        raise ModelError(
            f"the encoder's {features.name} and the backbone's {plane.name} have different "
            "element types, or are not FP32 or FP16; export both alike"
        )
    extents = _extents(features)
    voxels = extents[0] or "voxels"
    return _Seam(features.name, len(extents), voxels, channels, kind, plane.name)


def _shared_channels(features: onnx.ValueInfoProto, plane: onnx.ValueInfoProto) -> int:
    made, read = _extents(features), _extents(plane)
    channels = read[1] if len(read) == 4 else None
    fits = len(made) == 2 or (len(made) == 3 and made[1] == 1)
    if not isinstance(channels, int) or not fits or made[-1] != channels:
        raise ModelError(
            f"the encoder's {features.name} {_shown(made)} and the backbone's {plane.name} "
            f"{_shown(read)} do not fit; wanted: [voxels, channels] or [voxels, 1, channels], and "
            "[1, channels, rows, columns] of as many channels"
        )
    return channels


def _check_plane(plane: onnx.ValueInfoProto, channels: int, grid: Grid) -> None:
    layers, rows, columns = grid.shape
    if layers != 1:
        raise ModelError(f"the grid has {layers} layers; pillars are joined, which have one")
    wanted = [1, channels, rows, columns]
    found = _extents(plane)
    if any(isinstance(have, int) and have != want for have, want in zip(found, wanted)):
        raise ModelError(
            f"the backbone's {plane.name} is {_shown(found)}; the grid wants {_shown(wanted)}: "
            "check the range and the size of the pillars"
        )


def _extents(value: onnx.ValueInfoProto) -> list[int | str]:
    """Return numbers, and names where an extent is open."""
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param
        for dim in value.type.tensor_type.shape.dim
    ]


def _shown(extents: Sequence[int | str]) -> str:
    return f"[{','.join(str(extent or '?') for extent in extents)}]"


def _refuse_clashes(inputs: list[str], backbone: onnx.GraphProto) -> None:
    names = [*inputs, *(value.name for value in backbone.output)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ModelError(
            f"'{twice[0]}' would be the name of two tensors at the joined model's border; give "
            "the indices another name, or export with others"
        )


def _scatter(
    seam: _Seam, grid: Grid, index: onnx.ValueInfoProto
) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Make the nodes between the parts, and their constants."""
    _, rows, columns = grid.shape
    nodes: list[onnx.NodeProto] = []
    constants: list[TensorProto] = []

    def constant(name: str, values: list[int]) -> str:
        constants.append(
            helper.make_tensor(f"scatter/{name}", TensorProto.INT64, [len(values)], values)
        )
        return constants[-1].name

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(
            helper.make_node(
                kind, inputs, [output], name=f"scatter/{kind}_{len(nodes)}", **attributes
            )
        )
        return output

    features, places = f"encoder/{seam.features}", index.name
    if seam.rank == 3:
        # 0 keeps the extent.
        features = node(
            "Reshape", [features, constant("of_voxel", [0, seam.channels])], "scatter/features"
        )
    if index.type.tensor_type.elem_type != TensorProto.INT64:
        places = node("Cast", [places], "scatter/wide", to=TensorProto.INT64)
    places = node("Reshape", [places, constant("column", [0, 1])], "scatter/places")
    extents = constant("extents", [math.prod((rows, columns)), seam.channels])
    nothing = helper.make_tensor("value", seam.kind, [1], [0.0])
    empty = node("ConstantOfShape", [extents], "scatter/empty", value=nothing)
    filled = node("ScatterND", [empty, places, features], "scatter/filled")
    turned = node("Transpose", [filled], "scatter/turned", perm=[1, 0])
    shape = constant("plane", [1, seam.channels, rows, columns])
    node("Reshape", [turned, shape], f"backbone/{seam.plane}")
    return nodes, constants
