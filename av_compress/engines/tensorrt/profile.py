# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What TensorRT's profiler says of each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from av_compress.engines.tensorrt.inspect import inspect_layers
from av_compress.errors import EngineError

if TYPE_CHECKING:
    from tensorrt_api import ICudaEngine, TensorRT


def make_profiler(trt: TensorRT) -> Any:
    """Return a profiler of this module's own class; `taken` is layer -> milliseconds of each run.

    While an execution context has it, each execution waits for the device and then tells.
    """

    class Profiler(trt.IProfiler):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.taken: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.taken.setdefault(layer_name, []).append(ms)

    return Profiler()


def kinds_of(trt: TensorRT, engine: ICudaEngine) -> dict[str, tuple[str, str]]:
    """Return layer -> its kind and the type that it reads; empty where the plan does not tell."""
    try:
        layers = inspect_layers(trt, engine)
    except EngineError:
        # Names and times are there without.
        return {}
    return {
        layer.name: (layer.kind, layer.inputs[0].dtype if layer.inputs else "") for layer in layers
    }
