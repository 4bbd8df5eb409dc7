# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the compiler made of a model: precision of every weighted node, kernels, bytes moved."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from av_compress.engines.plans.layers import PlanLayer

# TensorRT's names of types -> those of precision plans.
PRECISIONS: Mapping[str, str] = {
    "Int8": "int8",
    "Half": "fp16",
    "BFloat16": "bf16",
    "Float": "fp32",
    "FP8": "fp8",
    "Fp8": "fp8",
    "E4M3": "fp8",
}
# Generated pointwise code, which also prepares what a convolution reads and finishes what it made.
_GENERATED = frozenset({"kgen"})
_CONVERTING = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast"})


@dataclass(frozen=True)
class AchievedNode:
    """A weighted node in a plan.

    Attributes:
        node: its name in the ONNX model.
        asked: the precision that the model's types and pairs ask for.
        achieved: what its kernel reads; `absent` where no kernel names it: computed ahead, or
            lost in a fusion that does not tell.
        writes: the type that its kernel writes.
        padding: weights that the kernel reads for each one of the model's; 1 where it reads these.
        bytes: what its kernel reads and writes for a frame, weights among it; not what others
            prepare for it. 0 where it is absent. What a run reads of weights is shared by its
            frames.

    """

    node: str
    asked: str
    achieved: str
    writes: str
    padding: float
    bytes: int

    @property
    def differs(self) -> bool:
        """Whether INT8 or FP8 was asked for and not achieved."""
        return self.asked in {"int8", "fp8"} and self.achieved != self.asked


@dataclass(frozen=True)
class PlanAccount:
    """What a plan does for every frame.

    Attributes:
        kernels: how many it starts for a run of `batch` frames.
        activation_bytes: bytes of activations that they read and write for a frame.
        constant_bytes: bytes of weights that they read for a run, shared by its frames.
        convolutions: "input x weight -> output" in types -> how many kernels with weights.
        conversions: kernels that only quantise, dequantise or cast.
        nodes: the weighted nodes, in the order of the model.
        batch: how many frames of a run the layers were listed for.

    """

    kernels: int
    activation_bytes: int
    constant_bytes: int
    convolutions: Mapping[str, int]
    conversions: int
    nodes: tuple[AchievedNode, ...]
    batch: int = 1

    @property
    def differing(self) -> tuple[AchievedNode, ...]:
        """The nodes that were to be integers and are not."""
        return tuple(node for node in self.nodes if node.differs)

    @property
    def bytes_moved(self) -> int:
        """All bytes that kernels read and write for a frame."""
        return self.activation_bytes + self.constant_bytes


@dataclass(frozen=True)
class AskedNode:
    """A weighted node as the model has it: name, precision, and number of its weights."""

    node: str
    precision: str
    weights: int


def frames_listed(layers: Sequence[PlanLayer], usual: int) -> int:
    """Return for how many frames layers are listed.

    Args:
        layers: of a plan. An open batch is listed as -1, whose bytes are counted for one frame;
            a batch that the profile fixes by its extent.
        usual: the usual batch of the plan's profile.

    """
    tensors = (tensor for layer in layers for tensor in (*layer.inputs, *layer.outputs))
    return 1 if any(-1 in tensor.shape for tensor in tensors) else usual


def account_for(
    layers: Sequence[PlanLayer],
    asked: Sequence[AskedNode],
    op_types: Mapping[str, str],
    batch: int = 1,
) -> PlanAccount:
    """Hold a plan's layers against the model.

    Args:
        layers: of the plan.
        asked: the model's weighted nodes.
        op_types: ONNX node name -> operator, of all nodes.
        batch: how many frames the layers are listed for, see `frames_listed`.

    """
    weighted = [_kernel_of(layers, node.node) for node in asked]
    distinct = {id(kernel): kernel for kernel in weighted if kernel is not None}
    return PlanAccount(
        kernels=len(layers),
        activation_bytes=math.ceil(sum(layer.activation_bytes for layer in layers) / batch),
        constant_bytes=math.ceil(sum(layer.constant_bytes for layer in layers) / batch),
        convolutions=dict(sorted(Counter(map(_signature, distinct.values())).items())),
        conversions=sum(_only_converts(layer, op_types) for layer in layers),
        nodes=tuple(_achieved(node, kernel, batch) for node, kernel in zip(asked, weighted)),
        batch=batch,
    )


def _kernel_of(layers: Sequence[PlanLayer], node: str) -> PlanLayer | None:
    """Find the kernel that multiplies a node's weights.

    Others are made of the node, too: they pad and quantise what it reads, and add its bias.
    """
    made = [layer for layer in layers if node in layer.nodes]
    chosen = [layer for layer in made if layer.kind not in _GENERATED] or made
    # A fusion of several nodes names them all; the node's own kernel bears its name.
    named = [layer for layer in chosen if layer.name.startswith(f"{node}_")]
    return next(iter(named or chosen), None)


def _achieved(asked: AskedNode, kernel: PlanLayer | None, batch: int) -> AchievedNode:
    if kernel is None or not kernel.inputs:
        return AchievedNode(asked.node, asked.precision, "absent", "absent", 1.0, 0)
    reads, writes = kernel.inputs[0].dtype, kernel.outputs[0].dtype
    stored = max((tensor.elements for tensor in kernel.constants), default=0)
    return AchievedNode(
        node=asked.node,
        asked=asked.precision,
        achieved=PRECISIONS.get(reads, reads.lower()),
        writes=PRECISIONS.get(writes, writes.lower()),
        padding=round(max(1.0, stored / asked.weights), 2) if asked.weights else 1.0,
        bytes=math.ceil((kernel.activation_bytes + kernel.constant_bytes) / batch),
    )


def _signature(kernel: PlanLayer) -> str:
    weights = max(kernel.constants, key=lambda tensor: tensor.elements, default=None)
    kinds = [kernel.inputs[:1], (weights,) if weights is not None else (), kernel.outputs[:1]]
    read, held, made = (
        PRECISIONS.get(tensors[0].dtype, tensors[0].dtype.lower()) if tensors else "none"
        for tensors in kinds
    )
    return f"{read} x {held} -> {made}"


def _only_converts(layer: PlanLayer, op_types: Mapping[str, str]) -> bool:
    kinds = {op_types[node] for node in layer.nodes if node in op_types}
    return bool(kinds) and kinds <= _CONVERTING
