# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The search for a precision plan: as much in INT8 as the accuracy condition bears."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from av_compress.compress.plan.precision import PrecisionPlan
from av_compress.compress.search.sensitivity import NodeSensitivity


@dataclass(frozen=True)
class SearchStep:
    """One evaluated plan.

    Attributes:
        spared: how many nodes were taken out of INT8.
        int8_mac_share: share of multiply-accumulates left in INT8, 0..1.
        loss: what it lost on the search frames, in points.
        passed: whether the condition held.
        quantised: the nodes in INT8.

    """

    spared: int
    int8_mac_share: float
    loss: float
    passed: bool
    quantised: frozenset[str]


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        plan: the plan with the fewest nodes spared among those that passed; where none did, the
            one that lost least.
        steps: every evaluation, in order.
        ranking: what each node costs alone, the dearest first.

    """

    plan: PrecisionPlan
    steps: tuple[SearchStep, ...]
    ranking: tuple[NodeSensitivity, ...]


@dataclass(frozen=True)
class Limits:
    """What a search aims at and may spend.

    Attributes:
        max_loss: largest loss that passes, in points.
        evaluations: how many plans may be evaluated that were not evaluated earlier; the first one
            always may.
        min_share: share of multiply-accumulates that stays in INT8 whatever it costs, 0..1.

    """

    max_loss: float
    evaluations: int
    min_share: float = 0.0


def search_plan(
    plan: PrecisionPlan,
    ranking: Sequence[NodeSensitivity],
    loss_of: Callable[[PrecisionPlan], float],
    limits: Limits,
    earlier: Collection[frozenset[str]] = (),
) -> Search:
    """Spare the dearest nodes until the loss is borne, then give back what is not needed.

    The number of spared nodes is bisected along the ranking. Then every spared node, the one with
    the most multiply-accumulates first, is tried in INT8 again. Where no evaluations are left,
    only plans that were evaluated earlier are looked at.

    Args:
        plan: everything in INT8 that may be.
        ranking: its INT8 nodes, the dearest first.
        loss_of: evaluates a plan; in points.
        limits: what is aimed at.
        earlier: the INT8 nodes of plans that were evaluated earlier and cost nothing again.

    """
    runner = _Runner(plan, ranking, loss_of, limits, earlier)
    spared = runner.bisect()
    if spared is not None:
        spared = runner.give_back(spared)
    if spared is None:
        spared = runner.nearest()
    return Search(runner.plan_without(spared), tuple(runner.steps), tuple(ranking))


def affordable(
    plan: PrecisionPlan, ranking: Sequence[NodeSensitivity], min_share: float
) -> tuple[str, ...]:
    """Return the dearest nodes that can be spared together while a share stays in INT8.

    A node that is too large for what is left is passed over.

    Args:
        plan: everything in INT8 that may be.
        ranking: its INT8 nodes, the dearest first.
        min_share: of all multiply-accumulates, 0..1.

    """
    total = sum(node.macs for node in plan.nodes)
    # Sums of shares that are equal on paper differ in the last digit.
    left = (plan.int8_mac_share() - min_share) * total * (1.0 + 1e-9)
    chosen = []
    for one in ranking:
        if one.macs <= left:
            left -= one.macs
            chosen.append(one.node)
    return tuple(chosen)


class _Runner:
    def __init__(
        self,
        plan: PrecisionPlan,
        ranking: Sequence[NodeSensitivity],
        loss_of: Callable[[PrecisionPlan], float],
        limits: Limits,
        earlier: Collection[frozenset[str]],
    ) -> None:
        self._plan, self._loss_of, self._limits = plan, loss_of, limits
        self._left, self._known = limits.evaluations, set(earlier)
        self._ranking = {s.node: s for s in ranking}
        self._names = affordable(plan, ranking, limits.min_share)
        self.steps: list[SearchStep] = []
        self._tried: list[tuple[float, tuple[str, ...]]] = []

    def bisect(self) -> tuple[str, ...] | None:
        """Return the fewest nodes of the ranking's head whose sparing passes; None: none did."""
        names = self._names
        if self._passes(()):
            return ()
        # `low` fails; `high` has not failed yet. With every node spared nothing is INT8: that
        # cannot be a plan; where a share has to stay, sparing all that is affordable can.
        everything = len(names) == len(self._ranking)
        low, high, best = 0, len(names) + (0 if everything else 1), None
        while high - low > 1:
            middle = (low + high) // 2
            if not self._may_evaluate(names[:middle]):
                break
            if self._passes(names[:middle]):
                high = middle
                best = names[:middle]
            else:
                low = middle
        return best

    def give_back(self, spared: tuple[str, ...]) -> tuple[str, ...]:
        for name in sorted(spared, key=lambda n: -self._ranking[n].macs):
            fewer = tuple(other for other in spared if other != name)
            if fewer and self._may_evaluate(fewer) and self._passes(fewer):
                spared = fewer
        return spared

    def nearest(self) -> tuple[str, ...]:
        """Return what was spared where the loss was least."""
        return min(self._tried)[1]

    def plan_without(self, names: Sequence[str]) -> PrecisionPlan:
        return self._plan.spared({name: reason(self._ranking[name]) for name in names})

    def _may_evaluate(self, names: tuple[str, ...]) -> bool:
        return self._left > 0 or self.plan_without(names).quantised() in self._known

    def _passes(self, names: tuple[str, ...]) -> bool:
        plan = self.plan_without(names)
        inside = plan.quantised()
        loss = self._loss_of(plan)
        if inside not in self._known:
            self._left -= 1
            self._known.add(inside)
        self._tried.append((loss, names))
        passed = loss <= self._limits.max_loss
        self.steps.append(SearchStep(len(names), plan.int8_mac_share(), loss, passed, inside))
        return passed


def reason(one: NodeSensitivity) -> str:
    """Say why a node is spared."""
    moved = f"the outputs by {one.error:.2g} of their variance"
    if one.shift is not None:
        moved = f"results by {one.shift:.2g}, {moved}"
    return f"spared: alone in INT8 it has {one.sqnr_db:.1f} dB and moves {moved}"
