# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Runtime, ICudaEngine and what they hand out.

Lifetimes are those of the real bindings: an engine keeps its runtime alive, a context keeps its
engine alive (`keep_alive` in their sources), so `del engine` is harmless while a context lives.
"""

from __future__ import annotations

from typing import Any

from trt_stand_in.engine import Engine
from trt_stand_in.plan import CorruptPlanError, Header, read_plan
from trt_stand_in.world import Behaviour, World


class PlanRefusedError(Exception):
    """A plan cannot be loaded: why, and TensorRT for RTX's name of the reason."""

    def __init__(self, text: str, reason: str = "MALFORMED_ENGINE") -> None:
        super().__init__(text)
        self.reason = reason


class Runtime(Behaviour):
    """Loads plans."""

    kind = "Runtime"

    def __init__(self, world: World, logger: Any) -> None:
        super().__init__(world, logger)
        if world.control.card is None and not world.facts.rtx:
            self.error("CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self.engine_host_code_allowed = False
        self.DLA_core, self.max_threads = -1, 1
        self.temporary_directory = "/tmp"
        self.tempfile_control_flags = 3
        self.defer_weights_loading = False
        self.engine_header_size = 64
        self.gpu_allocator: Any = None
        if world.has("DLAWorkspaceAllocationStrategy", "STATIC"):
            self.dla_workspace_allocation_strategy = world.enum(
                "DLAWorkspaceAllocationStrategy", "STATIC"
            )

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802
        return self.world.control.dla_cores

    def deserialize_cuda_engine(self, source: Any) -> Any:
        data = bytes(source) if isinstance(source, (memoryview, bytes)) else self._pull(source)
        if data is None:
            return None
        try:
            header, model = self._checked(data)
            return Engine(self, header, model)
        except PlanRefusedError as refusal:
            self.error(f"IRuntime::deserializeCudaEngine: {refusal}", "INVALID_ARGUMENT")
        except Exception as error:
            self.error(f"IRuntime::deserializeCudaEngine: the model does not run: {error}")
        return None

    def _pull(self, _reader: Any) -> None:
        # Their buffers are capsules, which Python code cannot fill.
        self.error("IRuntime::deserializeCudaEngine: stream readers are not in the stand-in")

    def get_engine_validity(self, data: memoryview) -> Any:
        diagnostics = self.world.facts.enums["EngineInvalidityDiagnostics"]
        try:
            self._checked(bytes(data))
        except PlanRefusedError as refusal:
            return self.world.enum("EngineValidity", "INVALID"), diagnostics[refusal.reason]
        return self.world.enum("EngineValidity", "VALID"), 0

    def _checked(self, data: bytes) -> tuple[Header, bytes]:
        try:
            header, model = read_plan(data)
        except CorruptPlanError as error:
            raise PlanRefusedError(f"Serialization assertion failed: {error}") from error
        self._check_version(header)
        self._check_card(header)
        if header.dla_core >= self.num_DLA_cores:
            raise PlanRefusedError(f"the plan uses DLA core {header.dla_core}", "UNSUPPORTED_CC")
        return header, model

    def _check_version(self, header: Header) -> None:
        facts = self.world.facts
        if header.package != facts.package:
            raise PlanRefusedError(f"the plan was built by {header.package}", "VERSION_MISMATCH")
        if header.host_code and not self.engine_host_code_allowed:
            raise PlanRefusedError(
                "the plan contains host code, and engine_host_code_allowed is not set",
                "VERSION_MISMATCH",
            )
        if header.version == facts.version:
            return
        built = tuple(map(int, header.version.split(".")))
        newer = built > facts.number or built[0] != facts.number[0]
        if newer or not header.version_compatible:
            raise PlanRefusedError(
                "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed. Version "
                f"tag does not match: this is {facts.version}, the plan of {header.version}",
                "VERSION_MISMATCH",
            )

    def _check_card(self, header: Header) -> None:
        card = self.world.control.card
        if card is None:
            raise PlanRefusedError(
                "CUDA driver version is insufficient (cudaError 35)", "CUDA_ERROR"
            )
        ampere = header.compatibility == "AMPERE_PLUS" and card.capability >= (8, 0)
        if card.text not in header.capabilities and not ampere:
            raise PlanRefusedError(
                f"the plan is for compute capability {', '.join(header.capabilities)}; this card "
                f"has {card.text}",
                "UNSUPPORTED_CC",
            )
        if header.card and header.card != card.name and header.compatibility == "NONE":
            self.say(
                "WARNING",
                "Using an engine plan file across different models of devices is not recommended "
                "and is likely to affect performance or even cause errors.",
            )
