# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a compiler makes of models while they are built: compiled, counted, and thrown away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from av_compress.build.compile import is_untyped, timings_on
from av_compress.build.plan_parts import account_of, source_of
from av_compress.build.recipe import CompileConfig
from av_compress.engines.machine import card_name, find_card
from av_compress.engines.plans.account import PlanAccount
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.compile import compile_plan
from av_compress.engines.tensorrt.module import compiles_ahead_of_time, load_module
from av_compress.engines.tensorrt.timing import TimingCache
from av_compress.errors import ConfigError, EngineError
from av_compress.progress import check_interrupt

if TYPE_CHECKING:
    from tensorrt_api import TensorRT


@dataclass(frozen=True)
class Compiler:
    """A backend that compiles for a target.

    Attributes:
        backend: `tensorrt` or `tensorrt_rtx`.
        trt: its module.
        options: for which device, and how.
        timings: what was measured on the card, where there has to be one.

    """

    backend: str
    trt: TensorRT
    options: CompileOptions
    timings: TimingCache | None = None

    @property
    def version(self) -> str:
        """Version of the backend's package."""
        return str(self.trt.__version__)

    def account(self, model: onnx.ModelProto) -> PlanAccount:
        """Compile a model, and say what was made of it.

        Raises:
            EngineError: the compiler refuses the model, or does not tell what it made of it.
            UsageError: an option is not one of the installed version.

        """
        source = source_of(self.trt, model.SerializeToString(deterministic=True), self.options)
        plan = compile_plan(self.trt, source, self.options, _go_on, self.timings)
        account = account_of(model, plan, self.options.batch[1])
        if not account.kernels:
            raise EngineError(f"{self.backend} {self.version} does not tell what it made of it")
        return account


def open_compiler(config: CompileConfig, max_batch: int) -> Compiler:
    """Load what a recipe's `compile` section names, before anything takes long.

    Args:
        config: the section.
        max_batch: most frames that the models take at once.

    Raises:
        MissingExtraError: the backend's package is not installed; says how to install it.
        ConfigError: it is not for the `tensorrt` form, or has no such capability.
        EngineError: it does not load, or wants a device that is not here.

    """
    trt = load_module(config.backend, f"the recipe's compile section (backend {config.backend})")
    options = CompileOptions(capabilities=config.capabilities, batch=(1, 1, max_batch))
    if is_untyped(trt, options):
        raise ConfigError(
            f"compile.backend: {config.backend} {trt.__version__} takes no types from the graph, "
            "so it says nothing of the form tensorrt; leave `compile` out"
        )
    if compiles_ahead_of_time(trt):
        _check_capabilities(trt, config)
        return Compiler(config.backend, trt, options)
    if config.capabilities:
        raise ConfigError(
            f"compile.capabilities: {config.backend} compiles for the card in this machine alone"
        )
    card = find_card()
    if card is None:
        raise EngineError(
            f"compile.backend: {config.backend} compiles on the device alone, and there is none "
            "here; build there, or with the backend tensorrt_rtx"
        )
    timings = timings_on(config.backend, str(trt.__version__), card_name(card))
    return Compiler(config.backend, trt, options, timings)


def _check_capabilities(trt: TensorRT, config: CompileConfig) -> None:
    known = {
        f"{name[2:-1]}.{name[-1]}"
        for name in getattr(trt.ComputeCapability, "__members__", {})
        if name.startswith("SM")
    }
    unknown = [one for one in config.capabilities if one not in known]
    if unknown:
        allowed = ", ".join(sorted(known, key=float))
        raise ConfigError(
            f"compile.capabilities: {unknown[0]!r} is not allowed; allowed: {allowed}"
        )


def _go_on(phase: str, done: int, total: int) -> bool:
    """Let a compilation go on, unless the user interrupted it."""
    try:
        check_interrupt()
    except KeyboardInterrupt:
        return False
    return True
