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
        return self.reads(node, "Int8")

    def reads(self, node: str, datatype: str) -> bool:
        """Tell whether the layer made of an ONNX node reads a type, as TensorRT names it."""
        return any(
            name.startswith(f"{node}_myl") and f"Datatype: {datatype}" in inputs
            for name, _, inputs in self.layers
        )


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
    """Parse and build a model for SM89; inputs' dynamic extents are 1."""
    trt = rtx()
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network()
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        return Refused("; ".join(f"{e.node_name()}: {e.desc()}" for e in errors))
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    _add_profile(builder, network, config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return Refused("; ".join(logger.errors))
    # Verbose, the builder logs every layer of the plan, with the types it reads and writes.
    listing = "\n".join(line for line in logger.lines if "LayerType" in line)
    layers = tuple((m["name"], m["kind"], m["inputs"]) for m in LAYER.finditer(listing))
    return Compiled(plan.nbytes, layers)


def _add_profile(builder: Any, network: Any, config: Any) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    if any(-1 in value.shape for value in inputs):
        profile = builder.create_optimization_profile()
        for value in inputs:
            shape = [1 if extent == -1 else extent for extent in value.shape]
            profile.set_shape(value.name, shape, shape, shape)
        config.add_optimization_profile(profile)


def _logger(trt: Any) -> Any:
    class Collector(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append(message)
            if severity == trt.ILogger.ERROR:
                self.errors.append(message)

    return Collector()
