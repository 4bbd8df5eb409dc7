# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A note in an FP32 model: its builder may compute in FP16, but for the nodes that are named.

Up to TensorRT 10 a network may be weakly typed: types in the graph are the widest, and a flag lets
the builder choose FP16 by layer. Where FP16 does not hold the values, it has to be told so, by
layer; layers have the names of nodes. The note travels in the file, which is then all that it
takes to compile.
"""

from __future__ import annotations

import json
from collections.abc import Collection

import onnx

# In the model's metadata_props; its value is a JSON list of node names.
FP32_NODES = "av_compress.fp32_nodes"


def allow_half(model: onnx.ModelProto, fp32_nodes: Collection[str]) -> None:
    """Note that everything but some nodes may be FP16; the model is changed."""
    forbid_half(model)
    entry = model.metadata_props.add()
    entry.key, entry.value = FP32_NODES, json.dumps(sorted(fp32_nodes))


def forbid_half(model: onnx.ModelProto) -> None:
    """Remove the note, which a source may have brought along; the model is changed."""
    kept = [entry for entry in model.metadata_props if entry.key != FP32_NODES]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def fp32_nodes(model: onnx.ModelProto) -> frozenset[str] | None:
    """Return the nodes that have to be FP32; None where nothing may be FP16 unless typed so."""
    found = next((e.value for e in model.metadata_props if e.key == FP32_NODES), None)
    return None if found is None else frozenset(json.loads(found))
