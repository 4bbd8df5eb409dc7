# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Sensitivities and plans of a recipe's model, without a build."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import yaml

from av_compress.build.basis import make_bases
from av_compress.build.gates import make_judge, reference_pipeline
from av_compress.build.observing import DirectObserving
from av_compress.build.preparation import prepare
from av_compress.build.recipe import Recipe, SearchConfig
from av_compress.build.samples import open_samples
from av_compress.build.search import Searcher
from av_compress.compress.plan.precision import PrecisionPlan, PrecisionRules
from av_compress.compress.search.journal import Journal
from av_compress.compress.search.plan_search import Search
from av_compress.compress.search.sensitivity import NodeSensitivity
from av_compress.errors import ConfigError


@dataclass(frozen=True)
class Findings:
    """What was measured.

    Attributes:
        plan: the plan that the rules make; where one was searched, that.
        ranking: what each node costs alone in INT8, the dearest first.
        search: the search; None where none was asked for.
        metric: of the search's loss.

    """

    plan: PrecisionPlan
    ranking: tuple[NodeSensitivity, ...]
    search: Search | None
    metric: str


def measure(recipe: Recipe, emitter: str, journal: Journal, search: bool) -> Findings:
    """Measure every node of a recipe's model alone in INT8, on the calibration frames.

    Args:
        recipe: with a gate, whose metric counts.
        emitter: one of its forms.
        journal: what was measured earlier.
        search: whether to search a plan too.

    Raises:
        ConfigError: the recipe does not fit the model, has no gate, or not this form.
        ModelError: the model cannot be compressed.
        DataError: samples are missing or unusable.

    """
    with ExitStack() as stack:
        searcher = open_searcher(recipe, emitter, journal, stack)
        basis = searcher.measured()
        if search:
            basis = replace(searcher, basis=basis).search()
    metric = searcher.judge.config.metric
    return Findings(basis.plan, basis.ranking or (), basis.search, metric)


def open_searcher(recipe: Recipe, emitter: str, journal: Journal, stack: ExitStack) -> Searcher:
    """Make all that a search needs of a recipe; see `measure`.

    Args:
        recipe: with a gate, whose metric counts.
        emitter: one of its forms.
        journal: what was measured earlier.
        stack: closes what is opened.

    """
    if recipe.gate is None:
        raise ConfigError("gate: sensitivities need a gate, whose metric they are measured in")
    if emitter not in recipe.emitters:
        raise ConfigError(
            f"--emitter: {emitter!r} is not allowed; allowed: {', '.join(recipe.emitters)}"
        )
    preparation = prepare(recipe)
    task, model = preparation.task, preparation.prepared.model
    rules = PrecisionRules.from_config(recipe.precision)
    reference = stack.enter_context(closing(reference_pipeline(task, model)))
    samples = open_samples(recipe, stack).calibration
    judge = make_judge(recipe.gate, samples, reference, "search")
    alone = replace(recipe, emitters=(emitter,))
    bases = make_bases(alone, model, rules, task, samples, DirectObserving())
    config = recipe.search or SearchConfig()
    return Searcher(emitter, bases[emitter], config, task, judge, journal)


def table(found: Findings) -> str:
    """Return the sensitivities as text, the dearest node first."""
    total = sum(node.macs for node in found.plan.nodes) or 1
    precisions = {node.node: node.precision.value for node in found.plan.nodes}
    rows = [("node", "MACs", "SQNR", "output error", "shift", "plan")]
    for one in found.ranking:
        rows.append(
            (
                one.node,
                f"{100 * one.macs / total:.2f} %",
                f"{one.sqnr_db:.1f} dB",
                f"{one.error:.2e}",
                "" if one.shift is None else f"{one.shift:.4f}",
                precisions[one.node],
            )
        )
    return "\n".join([*_aligned(rows), *_steps(found)])


def plan_yaml(found: Findings) -> str:
    """Return the plan as the `precision` section of a recipe, every node with its reason."""
    nodes = [
        {"match": _literal(n.node), "precision": n.precision.value, "reason": n.reason}
        for n in found.plan.nodes
    ]
    section = {"base": found.plan.base.value, "migrate": True, "nodes": nodes}
    return str(yaml.safe_dump(section, sort_keys=False, allow_unicode=True, width=200))


def _literal(name: str) -> str:
    """Return a pattern that matches this name alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i in {0, len(row) - 1} else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def _steps(found: Findings) -> list[str]:
    if found.search is None:
        return []
    steps = [
        f"  {step.spared:3} spared, {step.int8_mac_share:6.1%} in INT8: {found.metric} lost "
        f"{step.loss:.2f}{'' if step.passed else ' (too much)'}"
        for step in found.search.steps
    ]
    return ["", f"search: {found.plan.int8_mac_share():.1%} in INT8", *steps]
