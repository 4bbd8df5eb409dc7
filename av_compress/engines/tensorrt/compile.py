# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The compiling half: an ONNX model with its Q/DQ pairs becomes a plan."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from av_compress.engines.plans.layers import PlanLayer, parse_layers
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.configure import configure
from av_compress.engines.tensorrt.inspect import inspect_layers
from av_compress.engines.tensorrt.load import load_plan
from av_compress.engines.tensorrt.log import make_log
from av_compress.engines.tensorrt.module import takes_ranges, types_from_graph
from av_compress.engines.tensorrt.progress import Progress, watch
from av_compress.engines.tensorrt.timing import TimingCache
from av_compress.engines.tensorrt.weak import choose_types, give_ranges
from av_compress.errors import AvCompressError, EngineError
from av_compress.progress import check_interrupt

if TYPE_CHECKING:
    from tensorrt_api import Builder, INetworkDefinition, ParserError, TensorRT


@dataclass(frozen=True)
class NetworkSource:
    """What a plan is made of.

    Attributes:
        model: serialised ONNX.
        fp32_nodes: where the builder may compute in FP16 all but some nodes, these; None: types
            are those of the graph. For versions that take no types from it.
        ranges: tensor -> largest magnitude that INT8 stands for, where the model has no pairs and
            is to be quantised by ranges (DLA up to TensorRT 10); empty: by its pairs.

    """

    model: bytes
    fp32_nodes: frozenset[str] | None = None
    ranges: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CompiledPlan:
    """A serialised plan and what the builder said of it.

    Attributes:
        data: the plan.
        layers: what the compiler made of the model; empty where neither its log nor the engine
            inspector lists them.
        warnings: of parser and builder.
        seconds: how long it took.
        timing_cache: hash of the cache of timings that it leaves; empty where there is none.

    """

    data: bytes
    layers: tuple[PlanLayer, ...]
    warnings: tuple[str, ...]
    seconds: float
    timing_cache: str = ""


def compile_plan(
    trt: TensorRT,
    source: NetworkSource | bytes,
    options: CompileOptions,
    progress: Progress | None = None,
    timings: TimingCache | None = None,
) -> CompiledPlan:
    """Compile a model.

    Args:
        trt: the backend's module, see `load_module`.
        source: what it is made of; serialised ONNX where its pairs and types say all.
        options: for which device, and how.
        progress: is told of every step, where the version tells; may stop it.
        timings: what earlier compilations on this machine measured; is extended.

    Raises:
        UsageError: an option is not one of this version.
        EngineError: the parser or the builder refuses the model; the node is named where it is
            known; or no device can be had where one is needed.
        KeyboardInterrupt: `progress` stopped it.

    """
    if isinstance(source, bytes):
        source = NetworkSource(source)
    if source.ranges and not takes_ranges(trt):
        raise EngineError(
            f"TensorRT {trt.__version__} takes no ranges of tensors; compile the model with pairs"
        )
    started = time.perf_counter()
    logger = make_log(trt)
    builder = _make_builder(trt, logger)
    typed = types_from_graph(trt) and not source.ranges
    network = builder.create_network(_network_flags(trt, typed))
    _parse(trt, network, logger, source.model)
    config = builder.create_builder_config()
    configure(trt, builder, network, config, options)
    if not typed:
        choose_types(trt, network, config, source.fp32_nodes, bool(source.ranges))
        give_ranges(network, source.ranges)
    kept = timings is not None and timings.load(config)
    monitor = watch(trt, config, progress)
    data = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.stopped:
        raise KeyboardInterrupt
    if data is None:
        # A signal may have come anywhere in a callback, where nothing could be raised.
        check_interrupt()
        raise EngineError(f"the builder refuses the model: {logger.said() or 'it says not why'}")
    layers = parse_layers(logger.details) or _inspect(trt, logger, bytes(data))
    timing_cache, untimed = _keep(timings, config) if timings is not None and kept else ("", [])
    return CompiledPlan(
        data=bytes(data),
        layers=layers,
        warnings=tuple(dict.fromkeys([*logger.warnings, *untimed])),
        seconds=time.perf_counter() - started,
        timing_cache=timing_cache,
    )


def _keep(timings: TimingCache, config: Any) -> tuple[str, list[str]]:
    """Keep what was timed; a plan that took minutes is not lost where that cannot be written."""
    try:
        return timings.store(config), []
    except AvCompressError as error:
        return "", [f"what was timed is not kept, the next compilation takes as long: {error}"]


def _inspect(trt: TensorRT, logger: Any, plan: bytes) -> tuple[PlanLayer, ...]:
    """List layers where the log does not, by loading the plan; none where it cannot be loaded."""
    try:
        return inspect_layers(trt, load_plan(trt, logger, plan)[1])
    except EngineError:
        return ()


def _make_builder(trt: TensorRT, logger: Any) -> Builder:
    try:
        return trt.Builder(logger)
    except TypeError as error:
        # What the binding raises where the library returned nothing: there is no usable device.
        raise EngineError(
            f"TensorRT {trt.__version__} makes no builder: "
            f"{logger.said() or 'no NVIDIA device or driver that it can use'}; compile on the "
            "vehicle computer, or ahead of time with the backend tensorrt_rtx"
        ) from error


def _network_flags(trt: TensorRT, typed: bool) -> int:
    """Batches are explicit everywhere; types come from the graph where they are to."""
    flags = trt.NetworkDefinitionCreationFlag
    wanted = ("EXPLICIT_BATCH", "STRONGLY_TYPED") if typed else ("EXPLICIT_BATCH",)
    return sum(1 << int(getattr(flags, name)) for name in wanted if hasattr(flags, name))


def _parse(trt: TensorRT, network: INetworkDefinition, logger: Any, model: bytes) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse(model):
        return
    errors = [_parser_error(parser.get_error(i), model) for i in range(parser.num_errors)]
    raise EngineError(f"the parser refuses the model: {'; '.join(errors) or logger.said()}")


def _parser_error(error: ParserError, model: bytes) -> str:
    # The text ends in a line on CUDA that says nothing where there is no device.
    text = (str(error.desc()).splitlines() or [""])[0].strip()
    if hasattr(error, "node_name"):
        name, operator = error.node_name(), error.node_operator()
    else:
        name, operator = _node_at(model, error.node())
    where = f"node {name!r}" if name else f"node {error.node()}"
    return f"{where}{f' ({operator})' if operator else ''}: {text}"


def _node_at(model: bytes, index: int) -> tuple[str, str]:
    """Name a node by its place, for versions whose errors do not."""
    # Heavy to import, and of use here alone.
    import onnx

    nodes = onnx.load_model_from_string(model).graph.node
    return (nodes[index].name, nodes[index].op_type) if 0 <= index < len(nodes) else ("", "")
