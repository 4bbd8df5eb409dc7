# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which of a bundle's plans fits here, and of each that does not, exactly why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from av_compress.engines.plans.command import command
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.plans.store import Misfit, PlanRecord, PlanStore
from av_compress.errors import EngineError

# TensorRT for RTX compiles for these by default: `plans.options.CompileOptions.capabilities`.
_LEAST_BY_DEFAULT = (8, 0)
# The first cards of NVIDIA's level AMPERE_PLUS.
_AMPERE = (8, 0)
_VERSION_COMPATIBLE = "VERSION_COMPATIBLE"
# A finished release: 10.3.0, or 10.13.3.9+build. What comes before one has letters: 10.0.0b6.
_RELEASE = re.compile(r"(?P<numbers>\d+(?:\.\d+)*)(?:\+.*)?")
# As `engines.machine.card_name` ends.
_CAPABILITY = re.compile(r"\((?P<numbers>\d+\.\d+)\)$")

# Smallest and largest batch that are asked for.
Batches = tuple[int, int]


@dataclass(frozen=True)
class Runner:
    """What is to run a plan.

    Attributes:
        backend: `tensorrt` or `tensorrt_rtx`.
        version: of the installed package; empty where it is not known: no plan is refused for it.
        card: name and compute capability as `engines.machine.card_name` says it.
        capability: the card's compute capability, e.g. `8.9`; empty where there is no card: no
            plan is refused for it.
        index: the card's place in this machine.

    """

    backend: str
    version: str
    card: str
    capability: str
    index: int = 0


def choose_plan(
    root: Path,
    store: PlanStore,
    runner: Runner,
    artefacts: Mapping[str, str],
    batches: Batches | None = None,
) -> PlanRecord:
    """Choose the plan that fits; of several one for the wanted batches, the latest of these.

    Args:
        root: the bundle's folder, for the error.
        store: its plans.
        runner: what is to run it.
        artefacts: emitter -> hash of the artefact that the bundle holds now.
        batches: smallest and largest batch that it is to run. A plan that does not take the
            smallest does not fit; one that takes the largest too is preferred. None: not known;
            one that takes a single frame is preferred.

    Raises:
        EngineError: none fits; says of each why, and the command that makes one that does.

    """
    survey = store.survey()
    misfits, fitting = dict(survey.unreadable), []
    for record in survey.records:
        if record.target.backend != runner.backend:
            continue
        misfit = unfit(record, store, runner, artefacts) or _other_batch(record, batches)
        if misfit is None:
            fitting.append(record)
        else:
            misfits[record.target.key] = misfit
    if not fitting:
        raise EngineError(_none_fits(root, runner, misfits))
    wanted = 1 if batches is None else batches[1]
    return max(fitting, key=lambda one: (_takes(one, wanted), one.compiled_ns, one.target.key))


def _none_fits(root: Path, runner: Runner, misfits: Mapping[str, Misfit]) -> str:
    reasons = [f"plan {key}: {misfit.reason}" for key, misfit in misfits.items()]
    held = "; ".join(reasons) or f"it holds no plan of {runner.backend}"
    text = f"{root} has no plan for {runner.backend} {runner.version} on {runner.card}: {held}"
    if misfits and not any(misfit.recompile for misfit in misfits.values()):
        return text
    ahead = runner.backend == "tensorrt_rtx"
    options = CompileOptions(capabilities=(runner.capability,) if ahead else ())
    device = runner.index if runner.index and not ahead else None
    return f"{text}; run: {command(root, runner.backend, options, device=device)}"


def unfit(
    record: PlanRecord, store: PlanStore, runner: Runner, artefacts: Mapping[str, str]
) -> Misfit | None:
    """Say why a plan does not fit, whatever the batch; None where it does."""
    target = record.target
    reason = _other_version(record, runner) or _other_card(record, runner)
    if reason:
        return Misfit(reason)
    return store.unfit(record, artefacts.get(target.emitter, ""))


def remedy(root: Path, record: PlanRecord, runner: Runner, max_batch: int) -> str:
    """Return the command that compiles a plan that does not fit again, so that it does.

    Args:
        root: the bundle's folder.
        record: of the plan.
        runner: what is to run it.
        max_batch: the bundle's.

    """
    options = record.target.compile_options()
    if runner.backend == "tensorrt_rtx" and _other_card(record, runner):
        more = (*options.capabilities, runner.capability)
        options = replace(options, capabilities=more)
    return command(root, runner.backend, options, max_batch)


def _takes(record: PlanRecord, batch: int) -> bool:
    least, _, most = record.target.options["batch"]
    return bool(least <= batch <= most)


def _other_batch(record: PlanRecord, batches: Batches | None) -> Misfit | None:
    if batches is None or _takes(record, batches[0]):
        return None
    least, _, most = record.target.options["batch"]
    return Misfit(f"it was compiled for batches of {least} to {most}, wanted is {batches[0]}")


def _other_version(record: PlanRecord, runner: Runner) -> str:
    compiled, here = record.target.version, runner.version
    if compiled == here or not here:
        return ""
    flags = record.target.options["flags"]
    if _VERSION_COMPATIBLE in flags and _runs_older(compiled, here):
        return ""
    return f"it was compiled by version {compiled}, installed is {here}"


def _runs_older(compiled: str, here: str) -> bool:
    """Tell whether a version-compatible plan runs: within one major version, on a newer one.

    NVIDIA's documentation of TensorRT 10 and 11 ("Version Compatibility") lets plans of one major
    version run on the next one too, without what that one removed. Which of it a plan uses is not
    seen from outside, so such plans are refused here. Releases that are not finished promise
    nothing.
    """
    then, now = _RELEASE.fullmatch(compiled), _RELEASE.fullmatch(here)
    if then is None or now is None:
        return False
    earlier, later = (_numbers(one["numbers"])[:3] for one in (then, now))
    return earlier[0] == later[0] and earlier <= later


def _other_card(record: PlanRecord, runner: Runner) -> str:
    target = record.target
    if not runner.capability:
        return ""
    if target.card:
        return "" if target.card == runner.card else _outside_level(record, runner)
    if runner.backend != "tensorrt_rtx":
        return "it does not say on which card it was compiled"
    capabilities = target.options["capabilities"]
    if capabilities and runner.capability not in capabilities:
        return (
            f"it was compiled for compute capability {', '.join(capabilities)}, this card has "
            f"{runner.capability}"
        )
    if not capabilities and _numbers(runner.capability) < _LEAST_BY_DEFAULT:
        return f"it is for compute capability 8.0 and later, this card has {runner.capability}"
    return ""


def _outside_level(record: PlanRecord, runner: Runner) -> str:
    """Say why a plan does not fit another card than its own; by its level it may."""
    target = record.target
    level = target.options["hardware_compatibility"]
    own = _CAPABILITY.search(target.card)
    if level == "AMPERE_PLUS" and _numbers(runner.capability) >= _AMPERE:
        return ""
    if level == "SAME_COMPUTE_CAPABILITY" and own and own["numbers"] == runner.capability:
        return ""
    if level is None:
        return f"it was compiled on {target.card}, this is {runner.card}"
    return (
        f"it was compiled on {target.card} with the compatibility {level}, this is {runner.card}"
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
