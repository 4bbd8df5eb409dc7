# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How a builder is told what it is to compile for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from av_compress.engines.plans.options import CompileOptions, Extents
from av_compress.engines.tensorrt.module import compiles_ahead_of_time, member
from av_compress.errors import EngineError, UsageError

if TYPE_CHECKING:
    from tensorrt_api import Builder, IBuilderConfig, INetworkDefinition, TensorRT


def configure(
    trt: TensorRT,
    builder: Builder,
    network: INetworkDefinition,
    config: IBuilderConfig,
    options: CompileOptions,
) -> None:
    """Set a builder's options.

    Raises:
        UsageError: this version has no such option, this machine no such device, or the model
            no open batch.
        EngineError: an extent other than the batch is open.

    """
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if "STRIP_PLAN" in options.flags:
        raise UsageError(
            "--flag STRIP_PLAN: such a plan has no weights until it is refitted, and nothing here "
            "refits plans; compile without it"
        )
    for name in options.flags:
        config.set_flag(member(trt.BuilderFlag, name, "flag"))
    if options.hardware_compatibility is not None:
        config.hardware_compatibility_level = member(
            trt.HardwareCompatibilityLevel, options.hardware_compatibility, "compatibility level"
        )
    _set_capabilities(trt, config, options.capabilities)
    _set_dla(trt, builder, config, options.dla_core)
    _add_profile(builder, network, config, options.batch)


def _set_capabilities(
    trt: TensorRT, config: IBuilderConfig, capabilities: tuple[str, ...]
) -> None:
    if not capabilities:
        return
    if not compiles_ahead_of_time(trt):
        raise UsageError(
            "--compute-capability: this TensorRT compiles for the card in this machine alone; "
            "compile there, or with the backend tensorrt_rtx"
        )
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        name = f"SM{capability.replace('.', '')}"
        chosen = member(trt.ComputeCapability, name, "compute capability")
        config.set_compute_capability(chosen, index)


def _set_dla(trt: TensorRT, builder: Builder, config: IBuilderConfig, core: int | None) -> None:
    if core is None:
        return
    if core >= builder.num_DLA_cores:
        raise UsageError(f"--dla {core}: this machine has {builder.num_DLA_cores} DLA cores")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _add_profile(
    builder: Builder, network: INetworkDefinition, config: IBuilderConfig, batch: Extents
) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    dynamic = [one for one in inputs if -1 in tuple(one.shape)]
    if not dynamic:
        if batch[2] > 1:
            raise UsageError(
                f"--batch {','.join(map(str, batch))}: the batch of this model is fixed; build "
                f"the bundle with optimize: {{max_batch: {batch[2]}}}"
            )
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
