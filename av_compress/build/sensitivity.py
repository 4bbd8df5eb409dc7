# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Sensitivities and plans of a recipe's model, without a build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import yaml

from av_compress.build.basis import make_bases
from av_compress.build.gates import make_search_judge, reference_pipeline
from av_compress.build.observing import DirectObserving, Observing
from av_compress.build.preparation import precision_rules, prepare
from av_compress.build.recipe import Recipe, SearchConfig
from av_compress.build.samples import open_samples
from av_compress.build.search import Searcher
from av_compress.compress.emit.quantize import adapt_rules
from av_compress.compress.plan.precision import NodePrecision, PrecisionPlan, PrecisionRules
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
        by_class: whether single classes had a limit, too.
        precision: the recipe's own section.
        unmigrated: the INT8 nodes whose channels stay as they are though the rules migrate.

    """

    plan: PrecisionPlan
    ranking: tuple[NodeSensitivity, ...]
    search: Search | None
    metric: str
    by_class: bool
    precision: Mapping[str, Any]
    unmigrated: frozenset[str]


def measure(
    recipe: Recipe,
    emitter: str,
    journal: Journal,
    search: bool,
    observing: Observing | None = None,
) -> Findings:
    """Measure every node of a recipe's model alone in INT8, on the calibration frames.

    Args:
        recipe: with a gate, whose metric counts.
        emitter: one of its forms.
        journal: what was measured earlier.
        search: whether to search a plan too.
        observing: where observations come from; by default a run over the samples.

    Raises:
        ConfigError: the recipe does not fit the model, has no gate, or not this form.
        ModelError: the model cannot be compressed.
        DataError: samples are missing or unusable.

    """
    with ExitStack() as stack:
        searcher = open_searcher(recipe, emitter, journal, stack, observing)
        basis = searcher.measured()
        if search:
            basis = replace(searcher, basis=basis).search()
    migrates = adapt_rules(PrecisionRules.from_config(recipe.precision), emitter).migrate
    return Findings(
        plan=basis.plan,
        ranking=basis.ranking or (),
        search=basis.search,
        metric=searcher.judge.config.metric,
        by_class=searcher.judge.config.max_loss_per_class is not None,
        precision=recipe.precision,
        unmigrated=basis.plan.quantised() - set(basis.choices) if migrates else frozenset(),
    )


def open_searcher(
    recipe: Recipe,
    emitter: str,
    journal: Journal,
    stack: ExitStack,
    observing: Observing | None = None,
) -> Searcher:
    """Make all that a search needs of a recipe; see `measure`.

    Args:
        recipe: with a gate, whose metric counts.
        emitter: one of its forms.
        journal: what was measured earlier.
        stack: closes what is opened.
        observing: where observations come from; by default a run over the samples.

    """
    if recipe.gate is None:
        raise ConfigError("gate: sensitivities need a gate, whose metric they are measured in")
    if emitter not in recipe.emitters:
        raise ConfigError(
            f"--emitter: {emitter!r} is not allowed; allowed: {', '.join(recipe.emitters)}"
        )
    preparation = prepare(recipe)
    task, model = preparation.task, preparation.prepared.model
    rules = precision_rules(recipe, task)
    reference = stack.enter_context(closing(reference_pipeline(task, model)))
    samples = open_samples(recipe, task.frame_needs, stack).calibration
    judge = make_search_judge(recipe.gate, samples, reference)
    alone = replace(recipe, emitters=(emitter,))
    bases = make_bases(alone, model, rules, task, samples, observing or DirectObserving())
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
    """Return the plan as the `precision` section of a recipe, every node with its reason.

    The section is the recipe's own, with these nodes: fed back, all else is done as it was.
    """
    base = found.precision.get("base", PrecisionRules().base.value)
    nodes = [_entry(found, node, base) for node in found.plan.nodes]
    section = {"base": base, **found.precision, "nodes": nodes}
    return str(yaml.safe_dump(section, sort_keys=False, allow_unicode=True, width=200))


def _entry(found: Findings, node: NodePrecision, base: str) -> dict[str, Any]:
    # What a form without FP16 computes in FP32 is the recipe's base precision in the others.
    precision = base if node.precision is found.plan.base else node.precision.value
    kept = {"migrate": False} if node.node in found.unmigrated else {}
    return {"match": _literal(node.node), "precision": precision, **kept, "reason": node.reason}


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
    how = " (a class counts in shares of its own limit)" if found.by_class else ""
    return ["", f"search: {found.plan.int8_mac_share():.1%} in INT8{how}", *steps]
