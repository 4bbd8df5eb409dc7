# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The `tensorrt` form, chosen by what the compiler makes of its variants.

INT8 with a scale for each channel of a weight, or with one; the same in those nodes alone that
gain by it; float throughout. Each is compiled, and they are judged in the order of what their
plans cost: the first that passes every condition is taken. Where that is float, INT8 has lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from av_compress.build.accounts import Compiler
from av_compress.build.attempts import (
    AIMS,
    FormOutcome,
    Progress,
    Referee,
    judge_candidate,
    serialise,
)
from av_compress.build.candidates import Emitted, Maker, Skipped, lost_accuracy
from av_compress.build.choice import Cost, Ends, cost, find_mixed, units_of
from av_compress.build.recipe import CompileConfig
from av_compress.compress.plan.precision import PrecisionPlan, WeightScales
from av_compress.engines.manifest import AttemptRecord
from av_compress.engines.plans.account import PRECISIONS, PlanAccount
from av_compress.engines.variants import ChoiceRecord, VariantRecord
from av_compress.errors import EngineError
from av_compress.fileio import sha256_bytes
from av_compress.progress import track

# The form that compilers for a card read, types and all.
FORM = "tensorrt"
ONE_SCALE = "one scale a weight"
_FLOATS = ("fp16", "fp32")
_NAMED = 5


@dataclass(frozen=True)
class Variant:
    """One way to write the form, and what the compiler made of it.

    Attributes:
        name: unique among the variants.
        kind: `int8`, `mixed`, `fp16` or `fp32`.
        made: in its form; None where it was not made.
        account: None where nothing was compiled, or it was refused.
        fault: why it cannot be chosen; empty where it can.

    """

    name: str
    kind: str
    made: Emitted | None = None
    account: PlanAccount | None = None
    fault: str = ""

    @cached_property
    def sha256(self) -> str | None:
        """Hash of its file."""
        return None if self.made is None else sha256_bytes(serialise(self.made.model))

    def cost(self, choose_by: str) -> Cost:
        """Return what its plan costs; see `choice.cost`."""
        assert self.account is not None
        return cost(self.account, choose_by)


@dataclass(frozen=True)
class Chooser:
    """Makes and compiles the variants of a form.

    Attributes:
        maker: makes candidates.
        compiler: compiles them.
        config: the recipe's `compile` section.
        kinds: the candidates that the recipe allows.

    """

    maker: Maker
    compiler: Compiler
    config: CompileConfig
    kinds: Sequence[str]

    def variants(self) -> tuple[list[Variant], int]:
        """Return every variant, compiled, and how many plans were compiled to find the mixed one.

        Those with less in INT8 and finer scales stand first: among equals they are taken.

        Raises:
            ModelError: what was emitted is not valid.

        """
        floats = [self._plain(kind) for kind in _FLOATS if kind in self.kinds]
        wholes = list(self._wholes()) if {"int8", "mixed"} & set(self.kinds) else []
        mixed, trials = self._mixed(wholes) if "mixed" in self.kinds else ([], 0)
        return [*floats, *mixed, *(one for one in wholes if "int8" in self.kinds)], trials

    def compiled(self, name: str, kind: str, made: Emitted) -> Variant:
        """Compile a candidate."""
        try:
            account = self.compiler.account(made.model)
        except EngineError as error:
            return Variant(name, kind, made, None, str(error))
        return Variant(name, kind, made, account, _differing(account))

    def in_order(self, variants: Sequence[Variant]) -> list[Variant]:
        """Return the variants that can be chosen, the cheapest first; equals as they came."""
        able = [one for one in variants if one.account is not None and not one.fault]
        return sorted(able, key=lambda one: one.cost(self.config.choose_by))

    def _plain(self, kind: str) -> Variant:
        made = self.maker.make(FORM, kind, (), 1.0, ())
        if isinstance(made, Skipped):
            return Variant(kind, kind, fault=made.reason)
        return self.compiled(kind, kind, made)

    def _wholes(self) -> Iterator[Variant]:
        """Yield INT8 in every node that may be, in each way to scale its weights."""
        plan = self.maker.int8_plan(FORM)
        if not plan.quantised():
            yield Variant(
                "int8", "int8", fault="the precision rules let no node be INT8 in this form"
            )
            return
        for scales in track(_scales(plan), "compile: INT8"):
            made = self.maker.planned(FORM, replace(plan, weight_scales=scales))
            yield self.compiled(_named("int8", scales), "int8", made)

    def _mixed(self, wholes: Sequence[Variant]) -> tuple[list[Variant], int]:
        """Return INT8 in the nodes alone that gain by it."""
        ready = self.in_order(wholes) or [one for one in wholes if one.account is not None]
        if not ready or self.config.trials == 0:
            why = "compile.trials is 0" if ready else "there is no INT8 plan to find it in"
            return [Variant("mixed", "mixed", fault=why)], 0
        whole = min(ready, key=lambda one: one.cost(self.config.choose_by))
        assert whole.made is not None
        assert whole.account is not None
        plan, basis = whole.made.plan, whole.made.basis
        inside = plan.quantised()

        def compile_only(nodes: frozenset[str]) -> PlanAccount:
            spared = plan.spared(dict.fromkeys(inside - nodes, ""))
            return self.compiler.account(basis.emit(spared, FORM))

        try:
            floats = compile_only(frozenset())
        except EngineError as error:
            return [Variant("mixed", "mixed", fault=f"without INT8: {error}")], 0
        ends = Ends(inside, whole.account, floats, self.config.choose_by)
        units = units_of(basis.model, inside)
        found = find_mixed(units, ends, compile_only, self.config.trials)
        trials = found.trials + 1
        if found.int8 in {frozenset(), inside}:
            words = "no node gains by INT8" if not found.int8 else "every node gains by INT8"
            fault = f"{words} ({found.trials} trials)"
            return [Variant("mixed", "mixed", fault=fault)], trials
        mixed = plan.spared(found.reasons).with_notes(found.notes)
        made = [
            self.compiled(
                _named("mixed", scales),
                "mixed",
                self.maker.planned(FORM, replace(mixed, weight_scales=scales)),
            )
            for scales in track(_scales(self.maker.int8_plan(FORM)), "compile: mixed")
        ]
        return made, trials


def choose_form(
    maker: Maker, referee: Referee | None, compiler: Compiler, config: CompileConfig
) -> FormOutcome:
    """Compile the variants of the form, and judge them by what they cost until one passes.

    Where INT8 is the cheapest and does not hold its accuracy, a search finds what to spare, as it
    would without a compiler, and what it finds takes its place in the order.

    Args:
        maker: makes the candidates.
        referee: judges them; None: the cheapest is taken as it is.
        compiler: compiles them.
        config: the recipe's `compile` section.

    Raises:
        ModelError: what was emitted is not valid.
        EngineError: the compiler takes none of the variants.

    """
    chooser = Chooser(maker, compiler, config, maker.recipe.candidates)
    variants, trials = chooser.variants()
    queue, progress, aims = chooser.in_order(variants), Progress(), iter(AIMS)
    while queue:
        variant = queue.pop(0)
        assert variant.made is not None
        if judge_candidate(variant.made, variant.kind, referee, progress, _note(variant)):
            break
        if referee is not None and _may_search(variant, queue, progress):
            found = _searched(chooser, referee, progress, aims, variants)
            variants += found
            queue = chooser.in_order([*queue, *found])
    if not progress.judged:
        reasons = "; ".join(f"{one.name}: {one.fault}" for one in variants)
        raise EngineError(
            f"compile: {compiler.backend} {compiler.version} takes no variant of the form: "
            f"{reasons}"
        )
    record = ChoiceRecord(
        backend=compiler.backend,
        version=compiler.version,
        capabilities=config.capabilities,
        choose_by=config.choose_by,
        trials=trials,
        variants=tuple(_records(chooser, variants, progress)),
    )
    return progress.outcome(record)


def _may_search(variant: Variant, queue: Sequence[Variant], progress: Progress) -> bool:
    """Tell whether sparing nodes may help: what was refused has INT8, and float is dearer."""
    assert variant.made is not None
    refused = progress.attempts[-1]
    sparable = variant.kind == "int8" or variant.made.basis.search is not None
    floats_left = any(one.kind in _FLOATS for one in queue)
    return sparable and floats_left and lost_accuracy(refused)


def _searched(
    chooser: Chooser,
    referee: Referee,
    progress: Progress,
    aims: Iterator[float],
    variants: Sequence[Variant],
) -> list[Variant]:
    """Search what to spare of INT8, with the next aim that gives another model; compile that."""
    found: list[Variant] = []
    for aim in aims if "mixed" in chooser.kinds else ():
        name = f"mixed, searched for a loss of {aim * referee.judge.config.max_loss:.2f}"
        made = chooser.maker.make(FORM, "mixed", progress.attempts, aim, progress.searched)
        if isinstance(made, Skipped):
            return [*found, Variant(name, "mixed", fault=made.reason)]
        progress.searched.append(made.basis)
        digest = sha256_bytes(serialise(made.model))
        same = next((one.name for one in variants if one.sha256 == digest), None)
        if same is None:
            return [*found, chooser.compiled(name, "mixed", made)]
        found.append(Variant(name, "mixed", fault=f"the same model as {same}"))
    return found


def _records(
    chooser: Chooser, variants: Sequence[Variant], progress: Progress
) -> Iterator[VariantRecord]:
    """Describe every variant, the cheapest first, those that cannot be chosen last."""
    attempts = {one.sha256: one for one in progress.attempts if one.sha256 is not None}
    able = chooser.in_order(variants)
    accepted = next((one for one in able if _verdict(attempts, one) == "accepted"), None)
    for variant in [*able, *(one for one in variants if one not in able)]:
        attempt = attempts.get(variant.sha256 or "")
        if variant.fault:
            made = variant.made is not None
            verdict, reason = "refused" if made else "skipped", variant.fault
        elif attempt is not None:
            verdict, reason = attempt.verdict, attempt.reason.removeprefix(_note(variant))
        else:
            verdict, reason = "skipped", _dearer(variant, accepted, chooser.config.choose_by)
        yield _record(variant, attempt, verdict, reason)


def _verdict(attempts: dict[str, AttemptRecord], variant: Variant) -> str:
    attempt = attempts.get(variant.sha256 or "")
    return "" if attempt is None else attempt.verdict


def _dearer(variant: Variant, accepted: Variant | None, choose_by: str) -> str:
    if accepted is None:
        return "not judged"
    if variant.cost(choose_by) == accepted.cost(choose_by):
        return f"not judged: {accepted.name} costs as much and rounds less"
    return f"not judged: {accepted.name} costs less"


def _record(
    variant: Variant, attempt: AttemptRecord | None, verdict: str, reason: str
) -> VariantRecord:
    account = variant.account
    checks = () if attempt is None else attempt.checks
    scales = WeightScales.CHANNEL if variant.made is None else variant.made.plan.weight_scales
    return VariantRecord(
        name=variant.name,
        candidate=variant.kind,
        weight_scales=scales.value,
        sha256=variant.sha256,
        kernels=None if account is None else account.kernels,
        activation_bytes=None if account is None else account.activation_bytes,
        constant_bytes=None if account is None else account.constant_bytes,
        achieved={} if account is None else _achieved(account),
        convolutions={} if account is None else account.convolutions,
        loss=next((check.figure for check in checks if check.gate == "accuracy"), None),
        verdict=verdict,
        reason=reason,
    )


def _achieved(account: PlanAccount) -> dict[str, int]:
    counts = Counter(node.achieved for node in account.nodes)
    order = [*dict.fromkeys(PRECISIONS.values()), *sorted(counts)]
    return {kind: counts[kind] for kind in dict.fromkeys(order) if counts[kind]}


def _differing(account: PlanAccount) -> str:
    """Say which nodes are not what was asked for; nothing where all are."""
    names = [f"{node.node} ({node.achieved})" for node in account.differing]
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} nodes were to be INT8 and are not: {', '.join(names[:_NAMED])}{more}"


def _note(variant: Variant) -> str:
    assert variant.account is not None
    moved = variant.account.bytes_moved / 1e6
    return f"{variant.name}, {moved:.2f} MB in {variant.account.kernels} kernels: "


def _scales(plan: PrecisionPlan) -> tuple[WeightScales, ...]:
    """Return the ways to scale weights that a recipe allows: the finer one is its default."""
    if plan.weight_scales is WeightScales.TENSOR:
        return (WeightScales.TENSOR,)
    return (WeightScales.CHANNEL, WeightScales.TENSOR)


def _named(kind: str, scales: WeightScales) -> str:
    return f"{kind}, {ONE_SCALE}" if scales is WeightScales.TENSOR else kind
