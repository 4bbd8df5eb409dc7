# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT for RTX, whose parser and builder compile real plans on a machine without a GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: \[(?P<inputs>.*?)\], "
    r"(?:Constants|Outputs)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Compiled:
    """A compiled plan: its size, and its layers with the types of their inputs."""

    size: int
    layers: tuple[tuple[str, str, str], ...]

    def reads_int8(self, node: str) -> bool:
        """Tell whether the layer made of an ONNX node reads INT8."""
        return any(
            name.startswith(f"{node}_myl") and "Datatype: Int8" in inputs
            for name, _, inputs in self.layers
        )


def compile_plan(model: bytes) -> Compiled:
    """Parse and build a model for SM89; fail with the parser's errors where it is refused."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network()
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        pytest.fail("; ".join(f"{e.node_name()}: {e.desc()}" for e in errors))
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, "the builder made no plan"
    # Verbose, the builder logs every layer of the plan, with the types it reads and writes.
    listing = "\n".join(line for line in logger.lines if "LayerType" in line)
    layers = tuple((m["name"], m["kind"], m["inputs"]) for m in LAYER.finditer(listing))
    return Compiled(plan.nbytes, layers)


def _logger(trt: Any) -> Any:
    class Collector(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append(message)

    return Collector()
