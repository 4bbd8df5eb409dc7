# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The fall-back order: one candidate after the other, until one passes every condition."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import onnx

from av_compress.build.basis import Basis
from av_compress.build.candidates import Emitted, Maker, Skipped, lost_accuracy
from av_compress.build.checks import (
    FAILED,
    check_accuracy,
    check_classes,
    check_size,
    check_speed,
    excess,
)
from av_compress.build.gates import Judge, Observed, measuring_pipeline
from av_compress.build.speed import compare_speed
from av_compress.compress.plan.precision import PrecisionPlan
from av_compress.engines.forms import FORMS
from av_compress.engines.manifest import AttemptRecord, CheckRecord, GateRecord
from av_compress.engines.measurements import SpeedRecord
from av_compress.engines.variants import ChoiceRecord
from av_compress.errors import ConfigError
from av_compress.fileio import sha256_bytes
from av_compress.report.conditions import explain_refusal
from av_compress.tasks.base import Task
from av_compress.tensors import Tensors

# Frames that a search has not seen lose more than those it has: for what shares of the allowed
# loss it searches, one after the other.
AIMS = (1.0, 0.5, 0.25)
# Shares of multiply-accumulates that are left in INT8 where none of these searches held; what the
# recipe leaves there whatever it costs takes the place of those that are less.
SHARES = (0.9, 0.8, 0.65, 0.5)


@dataclass(frozen=True)
class Candidate:
    """One emitted model and how it was judged.

    Attributes:
        emitter: which form it has.
        kind: `int8`, `mixed`, `fp16` or `fp32`.
        model: serialised ONNX.
        sha256: its hash.
        basis: what it was emitted from.
        plan: precision of its weighted nodes, as the form holds it.
        gate: its accuracy; None without a gate.
        observed: what it made of the gate samples; None without a gate.
        checks: every condition of the recipe.
        speed: its time against the next higher precision; None where it was not taken.

    """

    emitter: str
    kind: str
    model: bytes
    sha256: str
    basis: Basis
    plan: PrecisionPlan
    gate: GateRecord | None = None
    observed: Observed | None = None
    checks: tuple[CheckRecord, ...] = ()
    speed: SpeedRecord | None = None

    @property
    def failed(self) -> tuple[CheckRecord, ...]:
        """The conditions that do not hold."""
        return tuple(check for check in self.checks if check.verdict == FAILED)

    @property
    def distance(self) -> tuple[int, float]:
        """How far from acceptance: conditions that failed, and the largest excess over a limit."""
        excesses = [excess(check, self.speed) for check in self.failed]
        return len(excesses), max(excesses, default=0.0)


@dataclass(frozen=True)
class FormOutcome:
    """What became of a form.

    Attributes:
        candidate: the accepted one; where all were refused, the one that came nearest.
        attempts: every candidate, in the order in which they were tried.
        speed: every comparison of times.
        searched: where each search for a mixed candidate ended, in order.
        choice: its variants, where it was chosen by what a compiler made of them.

    """

    candidate: Candidate
    attempts: tuple[AttemptRecord, ...]
    speed: tuple[SpeedRecord, ...]
    searched: tuple[Basis, ...]
    choice: ChoiceRecord | None = None

    @property
    def accepted(self) -> bool:
        """Whether a candidate passed."""
        return not self.candidate.failed

    def refusal(self) -> str:
        """Say why nothing was accepted: the nearest candidate, and the best on each condition."""
        times = {one.sha256: one for one in self.speed}
        nearest = next(a for a in self.attempts if a.sha256 == self.candidate.sha256)
        words = explain_refusal(self.attempts, nearest, lambda a: times.get(a.sha256 or ""))
        return f"{self.candidate.emitter}: no candidate holds every limit; {words}"


@dataclass(frozen=True)
class Referee:
    """Checks every condition of a recipe on a candidate.

    Attributes:
        judge: the accuracy on the gate samples.
        task: what the model means.
        source_bytes: size of the source model's file.
        fp32: the prepared model, serialised: what the cpu form is timed against.
        inputs: input tensors of some gate samples, to time with.

    """

    judge: Judge
    task: Task[Any, Any]
    source_bytes: int
    fp32: bytes
    inputs: Sequence[Tensors]

    def check(self, emitted: Emitted, model: bytes) -> Candidate:
        """Judge an emitted model."""
        config = self.judge.config
        observed = self._observe(emitted)
        gate = self.judge.gate(observed)
        speed, why_not = self._time(emitted, model)
        return Candidate(
            emitter=emitted.emitter,
            kind=emitted.kind,
            model=model,
            sha256=sha256_bytes(model),
            basis=emitted.basis,
            plan=emitted.plan,
            gate=gate,
            observed=observed,
            checks=(
                check_accuracy(gate),
                *check_classes(config, self.judge.class_losses(observed)),
                *check_size(config, len(model), self.source_bytes),
                *check_speed(config, speed, why_not),
            ),
            speed=speed,
        )

    def _observe(self, emitted: Emitted) -> Observed:
        if emitted.kind == "fp32":
            return self.judge.reference
        exact = FORMS[emitted.emitter].computes_pairs(on_gpu=False)
        with closing(measuring_pipeline(self.task, emitted.judged, exact=exact)) as pipeline:
            return self.judge.observe(pipeline, f"gate: {emitted.emitter} {emitted.kind}")

    def _time(self, emitted: Emitted, model: bytes) -> tuple[SpeedRecord | None, str]:
        if emitted.kind == "fp32":
            return None, "there is no higher precision to beat"
        if FORMS[emitted.emitter].simulated:
            return None, "not measured here: needs the device"
        # FP32 is the only float precision of the forms that run here.
        names = (emitted.emitter, emitted.kind, "fp32")
        return compare_speed(model, self.fp32, self.inputs, self.judge.config.speed, names), ""


@dataclass
class Progress:
    """What a form's attempts came to so far.

    Attributes:
        attempts: every candidate, in order.
        judged: those that were made.
        searched: where each search for a mixed candidate ended.
        models: hash -> candidate, of every model.

    """

    attempts: list[AttemptRecord] = field(default_factory=list)
    judged: list[Candidate] = field(default_factory=list)
    searched: list[Basis] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)

    def skip(self, kind: str, reason: str) -> None:
        """Note a candidate that was not made."""
        self.attempts.append(AttemptRecord(kind, "skipped", reason, None, None, None, ()))

    def add(self, candidate: Candidate, note: str) -> None:
        """Note a candidate that was judged."""
        self.judged.append(candidate)
        self.attempts.append(_record(candidate, note))

    def outcome(self, choice: ChoiceRecord | None = None) -> FormOutcome:
        """Return what became of the form, once a candidate was judged."""
        return FormOutcome(
            # The accepted one fails nothing: nothing is nearer.
            candidate=min(self.judged, key=lambda one: one.distance),
            attempts=tuple(self.attempts),
            speed=tuple(one.speed for one in self.judged if one.speed is not None),
            searched=tuple(self.searched),
            choice=choice,
        )


def attempt_form(
    emitter: str, kinds: Sequence[str], maker: Maker, referee: Referee | None
) -> FormOutcome:
    """Make and judge the candidates of a form in turn, until one passes.

    Args:
        emitter: the form.
        kinds: the candidates in order.
        maker: makes them.
        referee: judges them; None: the first one that can be made is taken as it is.

    Raises:
        ConfigError: the form can have none of the candidates.
        ModelError: what was emitted is not valid.

    """
    progress = Progress()
    for kind in kinds:
        if kind == "mixed" and referee is not None:
            passed = _attempt_mixed(emitter, maker, referee, progress)
        else:
            passed = _attempt(emitter, kind, maker, referee, progress)
        if passed:
            break
    if not progress.judged:
        reasons = "; ".join(f"{a.candidate}: {a.reason}" for a in progress.attempts)
        raise ConfigError(f"candidates: nothing can be made in the {emitter} form: {reasons}")
    return progress.outcome()


def _attempt_mixed(emitter: str, maker: Maker, referee: Referee, progress: Progress) -> bool:
    """Search, and search again with a lower aim where the gate's frames lose too much.

    Where no search held, the dearest nodes are spared without one, in a few coarse steps: a plan
    with half of the arithmetic in INT8 is worth more than none.
    """
    config = referee.judge.config
    for aim in AIMS:
        searched = len(progress.searched)
        if _attempt(emitter, "mixed", maker, referee, progress, aim):
            return True
        last = progress.attempts[-1]
        if len(progress.searched) == searched:
            # There was none, and nothing to spare by.
            return False
        if last.verdict == "refused" and not lost_accuracy(last):
            return False
        if not config.max_loss:
            # No share of it is less: the next search would be the same.
            break
    search = maker.recipe.search
    least = 0.0 if search is None else search.min_int8_share
    return any(
        judge_candidate(made, "mixed", referee, progress, f"{100 * share:.4g} % left in INT8: ")
        for share in dict.fromkeys(max(share, least) for share in SHARES)
        if not isinstance(made := maker.spared(emitter, progress.searched[-1], share), Skipped)
    )


def _attempt(
    emitter: str,
    kind: str,
    maker: Maker,
    referee: Referee | None,
    progress: Progress,
    aim: float = 1.0,
) -> bool:
    made = maker.make(emitter, kind, progress.attempts, aim, progress.searched)
    if isinstance(made, Skipped):
        progress.skip(kind, made.reason)
        return False
    note = ""
    if made.basis.search is not None and referee is not None:
        progress.searched.append(made.basis)
        note = f"searched for a loss of {aim * referee.judge.config.max_loss:.2f}: "
    return judge_candidate(made, kind, referee, progress, note)


def judge_candidate(
    made: Emitted, kind: str, referee: Referee | None, progress: Progress, note: str
) -> bool:
    """Judge a candidate, unless it is the same model as an earlier one; return whether it passed.

    Args:
        made: the candidate.
        kind: `int8`, `mixed`, `fp16` or `fp32`.
        referee: judges it; None: it is taken as it is.
        progress: is told of it.
        note: what stands before the reason.

    """
    emitter, model = made.emitter, serialise(made.model)
    digest = sha256_bytes(model)
    if digest in progress.models:
        progress.skip(kind, f"{note}the same model as {progress.models[digest]}")
        return False
    progress.models[digest] = kind
    candidate = (
        Candidate(emitter, kind, model, digest, made.basis, made.plan)
        if referee is None
        else referee.check(made, model)
    )
    progress.add(candidate, note)
    return not candidate.failed


def serialise(model: onnx.ModelProto) -> bytes:
    """Serialise so that equal models give equal bytes."""
    return bytes(model.SerializeToString(deterministic=True))


def int8_mac_share(candidate: Candidate) -> float:
    """Return the share of multiply-accumulates in INT8, 0 for a form that has other integers."""
    integers = FORMS[candidate.emitter].quantised == "int8"
    return round(candidate.plan.int8_mac_share(), 6) if integers else 0.0


def _record(candidate: Candidate, note: str) -> AttemptRecord:
    if candidate.gate is None:
        reason = "taken as it is: the recipe has no gate"
    else:
        failures = "; ".join(check.reason for check in candidate.failed)
        reason = f"{note}{failures or 'every condition holds'}"
    return AttemptRecord(
        candidate=candidate.kind,
        verdict="refused" if candidate.failed else "accepted",
        reason=reason,
        int8_mac_share=int8_mac_share(candidate),
        bytes=len(candidate.model),
        sha256=candidate.sha256,
        checks=candidate.checks,
    )
