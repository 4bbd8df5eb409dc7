# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT, the compiling half: an ONNX model with its Q/DQ pairs becomes a plan.

Two packages have one Python API: `tensorrt` (Jetson, DRIVE, data centre; 8.6 to 11) and
`tensorrt_rtx` (RTX cards; its builder needs no GPU). This is their only importer. What a version
has is found by looking for it, not by its number.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from av_compress.engines.plans.layers import PlanLayer, parse_layers
from av_compress.engines.plans.options import CompileOptions, Extents
from av_compress.errors import EngineError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from tensorrt_api import Builder, IBuilderConfig, INetworkDefinition, ParserError, TensorRT

# Backend -> the extra that installs its package.
BACKENDS: Mapping[str, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}

# Phase, steps done, steps of it; returns whether to go on.
Progress = Callable[[str, int, int], bool]


@dataclass(frozen=True)
class CompiledPlan:
    """A serialised plan and what the builder said of it.

    Attributes:
        data: the plan.
        layers: what the compiler made of the model; empty where the builder does not list them.
        warnings: of parser and builder.
        seconds: how long it took.

    """

    data: bytes
    layers: tuple[PlanLayer, ...]
    warnings: tuple[str, ...]
    seconds: float


def load_module(backend: str) -> TensorRT:
    """Import a backend's package.

    Args:
        backend: `tensorrt` or `tensorrt_rtx`.

    Raises:
        UsageError: there is no such backend.
        MissingExtraError: the package is not installed.
        EngineError: it is installed, but does not load.

    """
    if backend not in BACKENDS:
        raise UsageError(f"backend {backend!r} is not allowed; allowed: {', '.join(BACKENDS)}")
    try:
        return cast("TensorRT", importlib.import_module(backend))
    except ModuleNotFoundError as error:
        raise MissingExtraError(backend, BACKENDS[backend], "compiling a plan") from error
    except (ImportError, OSError) as error:
        raise EngineError(f"the Python module '{backend}' does not load: {error}") from error


def compile_plan(
    trt: TensorRT, model: bytes, options: CompileOptions, progress: Progress | None = None
) -> CompiledPlan:
    """Compile a model.

    Args:
        trt: the backend's module, see `load_module`.
        model: serialised ONNX.
        options: for which device, and how.
        progress: is told of every step, where the version tells; may stop it.

    Raises:
        UsageError: an option is not one of this version.
        EngineError: the version takes no types from the graph, or the parser or the builder
            refuses the model; the node is named where it is known.
        KeyboardInterrupt: `progress` stopped it.

    """
    if not _strongly_typed(trt):
        # Its builder would choose types by speed, whatever the graph says.
        raise EngineError(
            f"TensorRT {trt.__version__} takes no types from the graph; plans are compiled with "
            "TensorRT 10 or later, or with TensorRT for RTX"
        )
    started = time.perf_counter()
    logger = _Log.of(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    _parse(trt, network, logger, model)
    config = builder.create_builder_config()
    _configure(trt, builder, network, config, options)
    monitor = _watch(trt, config, progress)
    data = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.stopped:
        raise KeyboardInterrupt
    if data is None:
        raise EngineError(f"the builder refuses the model: {logger.said() or 'it says not why'}")
    return CompiledPlan(
        data=bytes(data),
        layers=parse_layers(logger.details),
        warnings=tuple(dict.fromkeys(logger.warnings)),
        seconds=time.perf_counter() - started,
    )


def _network_flags(trt: TensorRT) -> int:
    """Types come from the graph alone where the version can; batches are explicit everywhere."""
    flags = trt.NetworkDefinitionCreationFlag
    wanted = ("EXPLICIT_BATCH", "STRONGLY_TYPED")
    return sum(1 << int(getattr(flags, name)) for name in wanted if hasattr(flags, name))


def _parse(trt: TensorRT, network: INetworkDefinition, logger: Any, model: bytes) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse(model):
        return
    errors = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
    raise EngineError(f"the parser refuses the model: {'; '.join(errors) or logger.said()}")


def _parser_error(error: ParserError) -> str:
    # The text ends in a line on CUDA that says nothing where there is no device.
    text = str(error.desc()).splitlines()[0].strip()
    name = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    where = f"node {name!r}" if name else f"node {error.node()}"
    return f"{where}{f' ({operator})' if operator else ''}: {text}"


def _configure(
    trt: TensorRT,
    builder: Builder,
    network: INetworkDefinition,
    config: IBuilderConfig,
    options: CompileOptions,
) -> None:
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    for name in options.flags:
        config.set_flag(_member(trt.BuilderFlag, name, "flag"))
    if options.hardware_compatibility is not None:
        config.hardware_compatibility_level = _member(
            trt.HardwareCompatibilityLevel, options.hardware_compatibility, "compatibility level"
        )
    _set_capabilities(trt, config, options.capabilities)
    _set_dla(trt, builder, config, options.dla_core)
    _add_profile(builder, network, config, options.batch)


def _strongly_typed(trt: TensorRT) -> bool:
    """Tell whether types come from the graph: by a flag, or because there is no other way."""
    typed = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    return typed or not hasattr(trt.BuilderFlag, "INT8")


def _set_capabilities(
    trt: TensorRT, config: IBuilderConfig, capabilities: tuple[str, ...]
) -> None:
    if not capabilities:
        return
    if not hasattr(config, "set_compute_capability"):
        raise UsageError(
            "--compute-capability: this TensorRT compiles for the card in this machine alone; "
            "compile there, or with the backend tensorrt_rtx"
        )
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        name = f"SM{capability.replace('.', '')}"
        member = _member(trt.ComputeCapability, name, "compute capability")
        config.set_compute_capability(member, index)


def _set_dla(trt: TensorRT, builder: Builder, config: IBuilderConfig, core: int | None) -> None:
    if core is None:
        return
    if core >= builder.num_DLA_cores:
        raise UsageError(f"--dla {core}: this machine has {builder.num_DLA_cores} DLA cores")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _member(enum: Any, name: str, what: str) -> Any:
    if not hasattr(enum, name):
        known = ", ".join(sorted(getattr(enum, "__members__", {}))) or "none"
        raise UsageError(f"this TensorRT has no {what} {name}; it has: {known}")
    return getattr(enum, name)


def _add_profile(
    builder: Builder, network: INetworkDefinition, config: IBuilderConfig, batch: Extents
) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    dynamic = [one for one in inputs if -1 in tuple(one.shape)]
    if not dynamic:
        return
    profile = builder.create_optimization_profile()
    for one in dynamic:
        shape = tuple(one.shape)
        if -1 in shape[1:]:
            raise EngineError(
                f"input {one.name!r} has the extents {list(shape)}: only the first, the batch, "
                "may be open; set the others when the bundle is built"
            )
        profile.set_shape(one.name, *((extent, *shape[1:]) for extent in batch))
    config.add_optimization_profile(profile)


class _Log:
    """Makes loggers that keep what parser and builder say."""

    @staticmethod
    def of(trt: TensorRT) -> Any:
        """Return a logger of this module's own class: each module has another base."""
        severities = trt.ILogger

        class Log(trt.ILogger):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.errors: list[str] = []
                self.warnings: list[str] = []
                self.details: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                if severity in {severities.INTERNAL_ERROR, severities.ERROR}:
                    self.errors.append(message)
                elif severity == severities.WARNING:
                    self.warnings.append(message)
                elif "LayerType: " in message:
                    self.details.append(message)

            def said(self) -> str:
                return "; ".join(dict.fromkeys(line.strip() for line in self.errors))

        return Log()


def _watch(trt: TensorRT, config: IBuilderConfig, progress: Progress | None) -> Any:
    """Let the builder tell of its progress; None where it cannot or nobody asks."""
    if progress is None or not hasattr(trt, "IProgressMonitor"):
        return None
    go_on: Progress = progress

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = False
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if not go_on(phase_name, step + 1, self._steps.get(phase_name, 0)):
                self.stopped = True
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    monitor = Monitor()
    config.progress_monitor = monitor
    return monitor
