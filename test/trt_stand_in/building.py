# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a builder accepts and refuses, and the plan that it makes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from trt_stand_in.layers import Layers, describe_layers, log_text
from trt_stand_in.network import WEAK_FLAGS, Network
from trt_stand_in.plan import Header, write_plan

# Nothing can be built in less.
_LEAST_WORKSPACE = 4096
_PHASES = (("Preparing graph for optimization", 4), ("Timing graph nodes", 3))
_STEPS = 4


class BuildRefusedError(Exception):
    """The builder refuses; the text is logged."""


def build_plan(builder: Any, network: Network, config: Any) -> bytes | None:
    """Return a plan; None where the builder refuses, with the reason logged."""
    try:
        for check in (_check_network, _check_profiles, _check_types, _check_card, _check_device):
            check(builder, network, config)
        layers = describe_layers(network, config)
        _check_timings(config, layers)
        _report_progress(config.progress_monitor)
    except BuildRefusedError as refusal:
        builder.error(f"IBuilder::buildSerializedNetwork: {refusal}")
        return None
    verbosity = config.profiling_verbosity.name
    if verbosity == "DETAILED":
        builder.say("VERBOSE", log_text(layers))
    assert network.model is not None
    header = _header(builder, network, config, layers)
    return write_plan(header, network.model.SerializeToString())


def _check_network(builder: Any, network: Network, config: Any) -> None:
    if not network.explicit_batch:
        raise BuildRefusedError("networks with an implicit batch are not in the stand-in")
    if not network.outputs or network.model is None:
        raise BuildRefusedError("API Usage Error (Network must have at least one output.)")
    if config.pools["WORKSPACE"] < _LEAST_WORKSPACE:
        raise BuildRefusedError("no tactics to implement the operation within workspace limit")


def _check_profiles(builder: Any, network: Network, config: Any) -> None:
    if any(-1 in one.shape for one in network.inputs) and not config.profiles:
        raise BuildRefusedError(
            "API Usage Error (Network has dynamic or shape inputs, but no optimization profile "
            "has been defined.)"
        )
    for index, profile in enumerate(config.profiles):
        for tensor in network.inputs:
            _check_profile(index, tensor, profile.shapes.get(tensor.name))


def _check_profile(index: int, tensor: Any, shapes: Any) -> None:
    dynamic = -1 in tensor.shape
    if shapes is None:
        if dynamic:
            raise BuildRefusedError(
                f"Dynamic input tensor {tensor.name} is missing dimensions in profile {index}."
            )
        return
    if any(len(shape) != len(tensor.shape) for shape in shapes):
        raise BuildRefusedError(
            f"input tensor {tensor.name} has {len(tensor.shape)} dimensions but profile {index} "
            f"has {len(shapes[0])} dimensions."
        )
    for axis, extent in enumerate(tensor.shape):
        if extent >= 0 and any(shape[axis] != extent for shape in shapes):
            raise BuildRefusedError(
                f"Dimension mismatch for tensor {tensor.name} and profile {index}. At dimension "
                f"axis {axis}, the tensor has {extent}."
            )


def _check_types(builder: Any, network: Network, config: Any) -> None:
    flags = [name for name in WEAK_FLAGS if config.flag(name)]
    if network.strongly_typed:
        if flags:
            raise BuildRefusedError(
                f"API Usage Error (BuilderFlag::k{flags[0]} is set, which a strongly typed "
                "network does not allow.)"
            )
        return
    wanted = {layer.precision.name for layer in network.layers if layer.precision_is_set}
    wanted |= {t.name for layer in network.layers for t in layer.output_types.values()}
    if any(layer.operator == "QuantizeLinear" for layer in network.layers):
        wanted.add("INT8")
    for dtype, flag in (("INT8", "INT8"), ("HALF", "FP16"), ("BF16", "BF16")):
        if dtype in wanted and not config.flag(flag):
            raise BuildRefusedError(
                f"{flag.lower()} precision has been set for a layer or layer output, but "
                f"{flag.lower()} is not configured in the builder"
            )
    if config.flag("INT8") and config.int8_calibrator is None and "INT8" not in wanted:
        builder.say("WARNING", "Calibrator is not being used. Users must provide dynamic range.")


def _capabilities(builder: Any, config: Any) -> Iterator[tuple[int, int]]:
    card = builder.world.control.card
    for one in getattr(config, "_capabilities", ()):
        if one.name == "NONE" or (one.name == "CURRENT" and card is None):
            raise BuildRefusedError(f"compute capability {one.name} cannot be built for")
        yield card.capability if one.name == "CURRENT" else divmod(int(one), 10)


def _targets(builder: Any, config: Any) -> tuple[tuple[int, int], ...]:
    asked = tuple(_capabilities(builder, config))
    card = builder.world.control.card
    if asked or (card is not None and not builder.world.facts.rtx):
        return asked or (card.capability,)
    # Without any asked for, TensorRT for RTX builds for all from Ampere on.
    known = builder.world.facts.enums["ComputeCapability"].values()
    return tuple(divmod(number, 10) for number in known if number >= 80)


def _check_card(builder: Any, network: Network, config: Any) -> None:
    targets = _targets(builder, config)
    if "FP8" in network.types.values() and min(targets) < (8, 9):
        raise BuildRefusedError("HW-specific datatypes: FP8 needs compute capability 8.9")
    if not builder.world.facts.rtx:
        return
    if config.flag("VERSION_COMPATIBLE"):
        raise BuildRefusedError("Unable to load library: libnvinfer_lean.so.1")
    needs_card = ("REFIT", "STRIP_PLAN", "REFIT_IDENTICAL")
    if builder.world.control.card is None and any(map(config.flag, needs_card)):
        raise BuildRefusedError("CUDA driver: refittable plans need a card")


def _check_device(builder: Any, network: Network, config: Any) -> None:
    if config.default_device_type.name != "DLA" or builder.world.facts.rtx:
        return
    cores = builder.world.control.dla_cores
    if not 0 <= config.DLA_core < cores:
        raise BuildRefusedError(f"DLA core {config.DLA_core} is asked for; there are {cores}")
    if config.flag("GPU_FALLBACK"):
        return
    for layer in network.layers:
        if not config.can_run_on_DLA(layer):
            raise BuildRefusedError(
                f"Layer {layer.name} cannot run on DLA, and GPU_FALLBACK is not enabled"
            )


def _check_timings(config: Any, layers: Layers) -> None:
    cache = config.timing_cache
    keys = {hashlib.sha256(repr(layer).encode()).hexdigest()[:16] for layer in layers}
    strict = config.flag("ERROR_ON_TIMING_CACHE_MISS") and not config.world.facts.rtx
    if strict and not (cache is not None and keys <= cache.known):
        raise BuildRefusedError("timing cache miss, and ERROR_ON_TIMING_CACHE_MISS is set")
    if cache is not None and not config.flag("DISABLE_TIMING_CACHE"):
        cache.known |= keys


def _report_progress(monitor: Any) -> None:
    """Go through the builder's phases.

    Raises:
        BuildRefusedError: the monitor stops it.

    """
    if monitor is None:
        return
    outer = "Building engine"
    monitor.phase_start(outer, None, _STEPS)
    for step in range(_STEPS):
        for name, steps in _PHASES[step : step + 1]:
            monitor.phase_start(name, outer, steps)
            for inner in range(steps):
                _go_on(monitor, name, inner)
            monitor.phase_finish(name)
        _go_on(monitor, outer, step)
    monitor.phase_finish(outer)


def _go_on(monitor: Any, phase: str, step: int) -> None:
    if not monitor.step_complete(phase, step):
        raise BuildRefusedError("Error Code 7: BuildCanceled (Build canceled by user)")


def _header(builder: Any, network: Network, config: Any, layers: Layers) -> Header:
    world = builder.world
    card = world.control.card
    shapes = [
        {name: [list(shape) for shape in shapes] for name, shapes in profile.shapes.items()}
        for profile in config.profiles
    ]
    fixed = {t.name: [list(t.shape)] * 3 for t in network.inputs if -1 not in t.shape}
    profiles = tuple(fixed | profile for profile in shapes or [{}])
    tensors = [(t, "INPUT") for t in network.inputs] + [(t, "OUTPUT") for t in network.outputs]
    layered = layers if config.profiling_verbosity.name != "NONE" else ()
    return Header(
        package=world.facts.package,
        version=world.facts.version,
        card="" if world.facts.rtx or card is None else card.name,
        capabilities=tuple(f"{a}.{b}" for a, b in _targets(builder, config)),
        compatibility=config.hardware_compatibility_level.name,
        version_compatible=config.flag("VERSION_COMPATIBLE"),
        host_code=config.flag("VERSION_COMPATIBLE") and not config.flag("EXCLUDE_LEAN_RUNTIME"),
        refittable=config.flag("REFIT"),
        verbosity=config.profiling_verbosity.name,
        name=network.name,
        tensors=tuple(
            {"name": t.name, "mode": mode, "dtype": t.dtype.name, "shape": list(t.shape)}
            for t, mode in tensors
        ),
        profiles=profiles,
        layers=layered,
        dla_core=config.DLA_core if config.default_device_type.name == "DLA" else -1,
        scratch=2**20,
    )
