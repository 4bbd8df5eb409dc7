# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The layers of a compiled plan, as the builder's detailed log lists them.

With `ProfilingVerbosity.DETAILED` and a verbose logger, TensorRT lists every layer of a finished
plan in one line: its name and type, its inputs, constants and outputs with their extents, strides
and types, its tactic, and the ONNX nodes that it was made of. The engine inspector says the same
of a plan that is loaded on a device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

# Layers that order others in time and move nothing.
_SYNCHRONISING = frozenset({"signal", "wait"})
_BITS = {
    "Float": 32,
    "Half": 16,
    "BFloat16": 16,
    "Int8": 8,
    "UInt8": 8,
    "FP8": 8,
    "E4M3": 8,
    "Fp8": 8,
    "Int32": 32,
    "Int64": 64,
    "Bool": 8,
    "Int4": 4,
    "FP4": 4,
}
_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], "
    r"(?:Constants: \[(?P<constants>.*?)\], )?Outputs: \[(?P<outputs>.*?)\], "
    r"TacticName: (?P<tactic>.*?), StreamId: \d+(?P<rest>.*)$"
)
_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<extents>[^\]]*)\],"
    r"(?: Strides: \[(?P<strides>[^\]]*)\],)?.*?Datatype: (?P<type>\w+), Format: .*?\}(?=, \{|$)"
)
# One entry an ONNX node, with a unit separator between.
_NODE = re.compile(r"\[ONNX Layer: (.*)\]")
_BETWEEN_NODES = "\x1f"


@dataclass(frozen=True)
class PlanTensor:
    """A tensor between layers, or a constant.

    Attributes:
        name: the compiler's.
        shape: extents, with channels as the layer pads them; -1 for an open batch.
        dtype: TensorRT's name of its type: `Float`, `Half`, `Int8` ...
        strides: in elements; empty where the log has none.

    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        """How many numbers it holds; of an open batch, for one frame."""
        return math.prod(extent if extent >= 0 else 1 for extent in self.shape)

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.ceil(self.elements * _BITS.get(self.dtype, 32) / 8)


@dataclass(frozen=True)
class PlanLayer:
    """A layer of a plan: one kernel, or a copy.

    Attributes:
        name: the compiler's.
        kind: the compiler's: `correlation` is a convolution that nothing was fused with.
        inputs: activations that it reads.
        constants: weights and the like.
        outputs: what it writes.
        tactic: the compiler's name of the kernel.
        nodes: names of the ONNX nodes that it was made of.

    """

    name: str
    kind: str
    inputs: tuple[PlanTensor, ...]
    constants: tuple[PlanTensor, ...]
    outputs: tuple[PlanTensor, ...]
    tactic: str
    nodes: tuple[str, ...]

    @property
    def activation_bytes(self) -> int:
        """Bytes of activations that it reads and writes in a run; of an open batch, a frame."""
        return sum(tensor.bytes for tensor in (*self.inputs, *self.outputs))

    @property
    def constant_bytes(self) -> int:
        """Bytes of weights that it reads for each run."""
        return sum(tensor.bytes for tensor in self.constants)


def parse_layers(lines: Iterable[str]) -> tuple[PlanLayer, ...]:
    """Read the layers out of a builder's log; those that only synchronise are left out.

    Args:
        lines: messages of the log, each of one line or several.

    """
    found = []
    for message in lines:
        for line in message.splitlines() if "LayerType: " in message else ():
            match = _LAYER.match(line)
            if match is not None and not only_synchronises(match["kind"]):
                found.append(_layer(match))
    return tuple(found)


def _layer(match: re.Match[str]) -> PlanLayer:
    return PlanLayer(
        name=match["name"],
        kind=match["kind"],
        inputs=_tensors(match["inputs"]),
        constants=_tensors(match["constants"] or ""),
        outputs=_tensors(match["outputs"]),
        tactic=match["tactic"],
        nodes=nodes_of(match["rest"].partition("Metadata: ")[2]),
    )


def only_synchronises(kind: str) -> bool:
    """Tell whether layers of a kind order others in time and move nothing."""
    return kind in _SYNCHRONISING


def nodes_of(metadata: str) -> tuple[str, ...]:
    """Name the ONNX nodes that a layer's metadata says it was made of."""
    entries = (_NODE.fullmatch(entry) for entry in metadata.split(_BETWEEN_NODES))
    return tuple(dict.fromkeys(entry[1] for entry in entries if entry is not None))


def _tensors(text: str) -> tuple[PlanTensor, ...]:
    return tuple(
        PlanTensor(
            name=match["name"],
            shape=_numbers(match["extents"]),
            dtype=match["type"],
            strides=_numbers(match["strides"] or ""),
        )
        for match in _TENSOR.finditer(text.strip())
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number.strip())
