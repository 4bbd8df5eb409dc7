# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT for RTX, whose parser and builder compile real plans on a machine without a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from av_compress.engines.plans.layers import PlanLayer
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.compile import compile_plan as compile_for
from av_compress.errors import EngineError

ADA = CompileOptions(capabilities=("8.9",))


@dataclass(frozen=True)
class Compiled:
    """A compiled plan: its size, and its layers."""

    size: int
    layers: tuple[PlanLayer, ...]

    def reads_int8(self, node: str) -> bool:
        """Tell whether the layer made of an ONNX node reads INT8."""
        return self.reads(node, "Int8")

    def reads(self, node: str, datatype: str) -> bool:
        """Tell whether the layer made of an ONNX node reads a type, as TensorRT names it."""
        return any(
            layer.name.startswith(f"{node}_myl")
            and any(tensor.dtype == datatype for tensor in layer.inputs)
            for layer in self.layers
        )

    def holds(self, datatype: str) -> bool:
        """Tell whether any layer reads or writes a type."""
        tensors = (t for one in self.layers for t in (*one.inputs, *one.outputs, *one.constants))
        return any(tensor.dtype == datatype for tensor in tensors)


@dataclass(frozen=True)
class Refused:
    """What the parser or the builder said against a model, and of which nodes."""

    reason: str


def rtx() -> Any:
    """Return the module; skip the test where it is not installed."""
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")


def compile_plan(model: bytes) -> Compiled:
    """Parse and build a model for SM89; fail where it is refused."""
    outcome = try_compile(model)
    if isinstance(outcome, Refused):
        pytest.fail(outcome.reason)
    return outcome


def try_compile(model: bytes) -> Compiled | Refused:
    """Parse and build a model for SM89; an open batch is 1."""
    try:
        plan = compile_for(rtx(), model, ADA)
    except EngineError as error:
        return Refused(str(error))
    return Compiled(len(plan.data), plan.layers)
