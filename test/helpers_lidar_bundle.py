# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Small LiDAR models written by hand, and bundles of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from test_bundle import manifest

from av_compress.tasks.lidar_detection import LidarDetection


def center_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, np.ndarray],
    plane: tuple[int, int],
    opset: int = 17,
) -> bytes:
    """Serialise a model whose outputs are those of a centre head on a plane: heatmap and reg.

    Of the constants those are in it that its nodes read.
    """
    used = {name for node in nodes for name in node.input}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, *plane])
        for name, channels in (("heatmap", 1), ("reg", 8))
    ]
    held = [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in constants.items()
        if name in used
    ]
    graph = helper.make_graph(nodes, "centers", inputs, outputs, held)
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def write_lidar_bundle(root: Path, model: bytes, config: Mapping[str, Any]) -> Path:
    """Write a bundle of a model and its task."""
    (root / "cpu").mkdir(parents=True)
    (root / "cpu/model.onnx").write_bytes(model)
    task = LidarDetection.from_config(config).config()
    (root / "manifest.json").write_text(replace(manifest(model), task=task).to_json())
    return root
