# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bias correction in topological order: what quantisation moves on average, moved back.

Rounding and clipping move the mean of what a node makes, and the nodes behind it add up what
comes. Each node's mean is therefore measured with everything before it quantised **and
corrected**, and its bias takes the difference. Measured all at once, every node would make up for
the same shifts again.

Source: Nagel et al., Data-Free Quantization, 2019, section 4.2 (empirical, sequential).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from av_compress.compress.graph import GraphIndex
from av_compress.compress.layers import Floats, Layer
from av_compress.compress.refine.affine import Affine
from av_compress.compress.refine.insert import insert_affines, output_factors
from av_compress.errors import ModelError
from av_compress.progress import track
from av_compress.tensors import Tensors

Shifts = Mapping[str, Floats]


def correct_biases(
    model: onnx.ModelProto,
    affines: Mapping[str, Affine],
    emit: Callable[[Shifts], onnx.ModelProto],
    nodes: Iterable[str],
    samples: Sequence[Tensors],
    label: str,
) -> dict[str, Floats]:
    """Measure what each node's bias has to take.

    Args:
        model: FP32 model.
        affines: node name -> what is done to its input; nodes that are not INT8 are left out.
        emit: writes the model with its INT8 nodes, FP32 around them, these maps in it, and the
            given amounts added to biases; the nodes keep their names.
        nodes: names of the INT8 nodes; those without a place for a bias are left out.
        samples: input tensors of some frames.
        label: of the progress bar.

    Returns:
        node name -> float64 [output channels], to be added to its bias. Of its outputs as the
        model has them, whatever other nodes' maps do to them.

    Raises:
        ModelError: a form does not run.

    """
    inside = set(nodes)
    kept = {name: affine for name, affine in affines.items() if name in inside}
    factors = output_factors(model, kept)
    model = insert_affines(model, kept)
    layers = _with_biases(model, inside)
    if not layers or not samples:
        return {}
    wanted = _means(model, list(layers.values()), samples)
    found = {name: np.zeros(mean.shape) for name, mean in wanted.items()}
    changed = emit(found)
    for level in track(_levels(changed, layers), label):
        got = _means(changed, [layers[name] for name in level], samples)
        for name in level:
            found[name] = wanted[name] - got[name]
            _add_to_bias(changed, name, found[name])
    return {name: shift / factors.get(name, 1.0) for name, shift in found.items()}


def _with_biases(model: onnx.ModelProto, names: set[str]) -> dict[str, Layer]:
    """Return the nodes whose bias is, or can become, a constant."""
    index = GraphIndex(model)
    found = {}
    for node in model.graph.node:
        layer = Layer.of(index, node) if node.name in names else None
        if layer is None or node.op_type == "MatMul":
            continue
        if len(node.input) < 3 or not node.input[2] or index.constant(node.input[2]) is not None:
            found[layer.name] = layer
    return found


def _levels(model: onnx.ModelProto, layers: Mapping[str, Layer]) -> list[list[str]]:
    """Divide nodes into groups, in order, none of whose members reads what another makes."""
    depth: dict[str, int] = {}
    levels: dict[int, list[str]] = {}
    for node in model.graph.node:
        before = max((depth.get(name, 0) for name in node.input), default=0)
        if node.name in layers:
            levels.setdefault(before, []).append(node.name)
        depth |= dict.fromkeys(node.output, before + (node.name in layers))
    return [levels[level] for level in sorted(levels)]


def _means(
    model: onnx.ModelProto, layers: Sequence[Layer], samples: Sequence[Tensors]
) -> dict[str, Floats]:
    """Return each node's mean output channel by channel."""
    session = _watching(model, [str(layer.node.output[0]) for layer in layers])
    sums: dict[str, Any] = {layer.name: 0.0 for layer in layers}
    for tensors in samples:
        for layer, values in zip(layers, session.run(None, dict(tensors))):
            channels = np.moveaxis(values, layer.channel_axis, -1)
            flat = channels.reshape(-1, channels.shape[-1])
            sums[layer.name] = sums[layer.name] + flat.mean(axis=0, dtype=np.float64)
    return {name: np.asarray(total / len(samples)) for name, total in sums.items()}


def _watching(model: onnx.ModelProto, tensors: Sequence[str]) -> Any:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Every pair is computed as it stands, and optimising would take longer than it saves.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        return ort.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        raise ModelError(f"biases cannot be corrected: {error}") from error


def _add_to_bias(model: onnx.ModelProto, name: str, shift: Floats) -> None:
    node = next(n for n in model.graph.node if n.name == name)
    for tensor in model.graph.initializer:
        if tensor.name == node.input[2]:
            value = numpy_helper.to_array(tensor).astype(np.float64) + shift
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
