# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which of a bundle's plans fits here, and of each that does not, exactly why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from av_compress.engines.plans.store import PlanRecord, PlanStore
from av_compress.errors import EngineError

# TensorRT for RTX compiles for these by default: `plans.options.CompileOptions.capabilities`.
_LEAST_BY_DEFAULT = (8, 0)
_VERSION_COMPATIBLE = "VERSION_COMPATIBLE"


@dataclass(frozen=True)
class Runner:
    """What is to run a plan.

    Attributes:
        backend: `tensorrt` or `tensorrt_rtx`.
        version: of the installed package.
        card: name and compute capability as `engines.machine.card_name` says it.
        capability: the card's compute capability, e.g. `8.9`.
        index: the card's place in this machine.

    """

    backend: str
    version: str
    card: str
    capability: str
    index: int = 0


def choose_plan(
    root: Path, store: PlanStore, runner: Runner, artefacts: Mapping[str, str]
) -> PlanRecord:
    """Choose the plan that fits; of several the one that was compiled last.

    Args:
        root: the bundle's folder, for the error.
        store: its plans.
        runner: what is to run it.
        artefacts: emitter -> hash of the artefact that the bundle holds now.

    Raises:
        EngineError: none fits; says of each why, and the command that makes one that does.
        BundleError: a signature is required and does not hold.

    """
    reasons, fitting = [], []
    for record in store.records():
        if record.target.backend != runner.backend:
            continue
        reason = unfit(record, store, runner, artefacts)
        if reason:
            reasons.append(f"plan {record.target.key}: {reason}")
        else:
            fitting.append(record)
    if not fitting:
        held = "; ".join(reasons) or f"it holds no plan of {runner.backend}"
        raise EngineError(
            f"{root} has no plan for {runner.backend} {runner.version} on {runner.card}: {held}; "
            f"run: {command(root, runner)}"
        )
    return max(fitting, key=lambda record: (store.compiled_ns(record), record.target.key))


def command(root: Path, runner: Runner) -> str:
    """Return the command that compiles a plan that fits."""
    made = f"av-compress compile {root} --backend {runner.backend}"
    if runner.backend == "tensorrt_rtx":
        return f"{made} --compute-capability {runner.capability}"
    return f"{made} --device {runner.index}" if runner.index else made


def unfit(
    record: PlanRecord, store: PlanStore, runner: Runner, artefacts: Mapping[str, str]
) -> str:
    """Say why a plan does not fit; empty where it does."""
    target = record.target
    return (
        _other_version(record, runner)
        or _other_card(record, runner)
        or store.unfit(record, artefacts.get(target.emitter, ""))
    )


def _other_version(record: PlanRecord, runner: Runner) -> str:
    compiled, here = record.target.version, runner.version
    if compiled == here:
        return ""
    flags = record.target.options["flags"]
    if _VERSION_COMPATIBLE in flags and _runs_older(compiled, here):
        return ""
    return f"it was compiled by version {compiled}, installed is {here}"


def _runs_older(compiled: str, here: str) -> bool:
    """Tell whether a version-compatible plan runs: within one major version, on a newer one."""
    then, now = ([int(part) for part in one.split(".")[:3]] for one in (compiled, here))
    return then[0] == now[0] and then <= now


def _other_card(record: PlanRecord, runner: Runner) -> str:
    target = record.target
    if target.card:
        if target.card == runner.card or target.options["hardware_compatibility"] is not None:
            return ""
        return f"it was compiled on {target.card}, this is {runner.card}"
    if runner.backend != "tensorrt_rtx":
        return "it does not say on which card it was compiled"
    capabilities = target.options["capabilities"]
    if capabilities and runner.capability not in capabilities:
        return (
            f"it was compiled for compute capability {', '.join(capabilities)}, this card has "
            f"{runner.capability}"
        )
    if not capabilities and _number(runner.capability) < _LEAST_BY_DEFAULT:
        return f"it is for compute capability 8.0 and later, this card has {runner.capability}"
    return ""


def _number(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))
