# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which behaviour stands behind which class, and what the module's functions do."""

from __future__ import annotations

import sys
from typing import Any

from trt_stand_in.builder import Builder
from trt_stand_in.parser import Parser
from trt_stand_in.runtime import Runtime
from trt_stand_in.values import Weights
from trt_stand_in.world import Behaviour, World

_LETTERS = {"INTERNAL_ERROR": "F", "ERROR": "E", "WARNING": "W", "INFO": "I", "VERBOSE": "V"}


class Logger(Behaviour):
    """The package's own logger: writes to standard error."""

    kind = "Logger"

    def __init__(self, world: World, min_severity: Any) -> None:
        super().__init__(world)
        self.min_severity = min_severity

    def log(self, severity: Any, message: str) -> None:
        if int(severity) <= int(self.min_severity):
            print(f"[TRT] [{_LETTERS[severity.name]}] {message}", file=sys.stderr)


class Profiler(Behaviour):
    """The package's own profiler: writes to standard output."""

    kind = "Profiler"

    def __init__(self, world: World) -> None:
        super().__init__(world)

    def report_layer_time(self, name: str, milliseconds: float) -> None:
        print(f"{name}: {milliseconds}ms")


class PluginRegistry(Behaviour):
    """A registry without plugins."""

    kind = "IPluginRegistry"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.parent_search_enabled = True
        self.all_creators: list[Any] = []
        self.plugin_creator_list: list[Any] = []
        self.all_creators_recursive: list[Any] = []


BEHAVIOURS = {
    "Builder": Builder,
    "Logger": Logger,
    "OnnxParser": Parser,
    "Profiler": Profiler,
    "Runtime": Runtime,
    "Weights": Weights,
}


def _parser_version(world: World) -> int:
    major, minor, patch = world.facts.number[:3]
    # TensorRT for RTX carries its own parser's number: 2.0.0 in 1.7.
    return 200 if world.facts.rtx else major * 10000 + minor * 100 + patch


FUNCTIONS: dict[str, Any] = {
    "get_builder_plugin_registry": lambda world, _capability: PluginRegistry(world),
    "get_nv_onnx_parser_version": _parser_version,
    "get_plugin_registry": PluginRegistry,
    "init_libnvinfer_plugins": lambda _world, _logger, _namespace: True,
    "shutdown_protobuf_library": lambda _world: None,
}
