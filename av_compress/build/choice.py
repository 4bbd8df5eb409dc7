# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a plan costs for a frame, and which nodes gain by INT8 in it: found by compiling.

A node in INT8 reads and writes less by itself, but what stands around it may have to quantise,
pad or restore: only a whole plan tells. So plans are compiled, counted and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx

from av_compress.engines.plans.account import AchievedNode, PlanAccount
from av_compress.errors import EngineError
from av_compress.progress import track

# What is to be least, and what decides between equals.
Cost: TypeAlias = tuple[int, int]
# Nodes that read one activation: they share its integers.
Unit: TypeAlias = tuple[str, ...]
# Names of the nodes in INT8 -> what the compiler makes of that plan; raises EngineError.
Compile: TypeAlias = Callable[[frozenset[str]], PlanAccount]
_ABSENT = "absent"


def cost(account: PlanAccount, choose_by: str) -> Cost:
    """Return what a plan costs for a frame, to be compared.

    Args:
        account: of the plan.
        choose_by: `bytes_moved` or `kernels`.

    """
    found = (account.bytes_moved, account.kernels)
    return found if choose_by == "bytes_moved" else found[::-1]


@dataclass(frozen=True)
class Ends:
    """The two plans between which a mixed one is looked for.

    Attributes:
        inside: the nodes that are INT8 in the first.
        integers: the account of that plan.
        floats: of the plan without INT8.
        choose_by: `bytes_moved` or `kernels`.

    """

    inside: frozenset[str]
    integers: PlanAccount
    floats: PlanAccount
    choose_by: str

    @property
    def from_integers(self) -> bool:
        """Whether nodes are taken out of INT8, one after the other, or put into it."""
        costs = [cost(one, self.choose_by) for one in (self.integers, self.floats)]
        # What silently became float is no place to start from.
        return not self.integers.differing and costs[0] < costs[1]

    @property
    def start(self) -> PlanAccount:
        """The cheaper of the two, which trials are held against."""
        return self.integers if self.from_integers else self.floats


@dataclass(frozen=True)
class MixedPlan:
    """Which nodes a mixed plan has in INT8.

    Attributes:
        int8: their names; the same as in one of the ends where nothing pays.
        reasons: node -> why it is not in INT8.
        notes: node -> what it gains in INT8, of those that were tried.
        trials: how many plans were compiled.

    """

    int8: frozenset[str]
    reasons: Mapping[str, str]
    notes: Mapping[str, str]
    trials: int


@dataclass
class _Found:
    toggled: set[str] = field(default_factory=set)
    notes: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    trials: int = 0


def find_mixed(units: Sequence[Unit], ends: Ends, compiled: Compile, trials: int) -> MixedPlan:
    """Find the nodes whose precision makes a plan cheaper, each unit tried by itself.

    From the cheaper of the two ends: what is toggled alone and makes that plan cheaper is toggled
    in the result. Kernels are local, so that gains nearly add up; what they really come to is
    known once the result is compiled.

    Args:
        units: nodes that are toggled together.
        ends: INT8 as far as it may go, and none of it.
        compiled: compiles a plan.
        trials: how many plans may be compiled; those units come first that have most to gain.

    """
    found = _Found()
    chances = sorted(((_chance(unit, ends), unit) for unit in units), key=lambda one: -one[0])
    tried = [unit for chance, unit in chances if chance > 0 or not _tells(ends)]
    for unit in track(tried[:trials], "compile: one after the other"):
        _try(unit, ends, compiled, found)
    for unit in tried[trials:]:
        found.reasons.update(dict.fromkeys(unit, "not tried in INT8: beyond compile.trials"))
    for unit in set(units) - set(tried):
        found.reasons.update({node: _own_kernel(node, ends) for node in unit})
    start = ends.inside if ends.from_integers else frozenset()
    int8 = start ^ found.toggled
    reasons = {
        node: found.reasons.get(node, "the plan is cheaper without it in INT8")
        for node in ends.inside - int8
    }
    notes = {node: found.notes[node] for node in found.notes if node in int8}
    return MixedPlan(int8, reasons, notes, found.trials)


def _try(unit: Unit, ends: Ends, compiled: Compile, found: _Found) -> None:
    start = ends.inside if ends.from_integers else frozenset()
    found.trials += 1
    try:
        account = compiled(start ^ frozenset(unit))
    except EngineError as error:
        found.reasons.update(dict.fromkeys(unit, f"refused in a trial: {error}"))
        return
    if account.differing:
        found.reasons.update(dict.fromkeys(unit, "in a trial it did not become INT8"))
        return
    cheaper = cost(account, ends.choose_by) < cost(ends.start, ends.choose_by)
    if cheaper:
        found.toggled.update(unit)
    words = dict.fromkeys(unit, _difference(account, ends))
    # Toggled out of INT8, or not into it.
    (found.reasons if cheaper == ends.from_integers else found.notes).update(words)


def _difference(account: PlanAccount, ends: Ends) -> str:
    """Say what a trial's plan does more or less than the one it was held against."""
    moved = account.bytes_moved - ends.start.bytes_moved
    kernels = account.kernels - ends.start.kernels
    where = "without it in INT8" if ends.from_integers else "with it alone in INT8"
    return (
        f"{where} the plan moves {_kb(abs(moved))} {'more' if moved > 0 else 'less'}, in "
        f"{abs(kernels)} {'fewer' if kernels < 0 else 'more'} kernels"
    )


def _tells(ends: Ends) -> bool:
    """Tell whether a unit whose own kernels lose by INT8 loses in the whole plan: it adds to it.

    The other way round it does not: what its kernels gain may be lost around them.
    """
    return ends.choose_by == "bytes_moved" and not ends.from_integers


def _chance(unit: Unit, ends: Ends) -> float:
    """Return the bytes that the unit's own kernels would move less, once it is toggled."""
    integers, floats = (_nodes(account, unit) for account in (ends.integers, ends.floats))
    if any(node.achieved == _ABSENT for node in (*integers, *floats)):
        # A kernel that does not name its nodes says nothing of them; it is tried last.
        return 0.5
    gain = sum(node.bytes for node in floats) - sum(node.bytes for node in integers)
    return -gain if ends.from_integers else gain


def _own_kernel(node: str, ends: Ends) -> str:
    integers, floats = (_nodes(a, (node,))[0] for a in (ends.integers, ends.floats))
    padded = f" and pads its channels {integers.padding:g}-fold"
    return (
        f"its own kernel moves {_kb(integers.bytes)} in INT8{padded * (integers.padding > 1)}, "
        f"writing {integers.writes.upper()}; {_kb(floats.bytes)} in {floats.achieved.upper()}"
    )


def _nodes(account: PlanAccount, names: Iterable[str]) -> list[AchievedNode]:
    known = {node.node: node for node in account.nodes}
    return [known.get(name, AchievedNode(name, "", _ABSENT, _ABSENT, 1.0, 0)) for name in names]


def _kb(size: int) -> str:
    return f"{size / 1e3:,.1f} kB"


def units_of(model: onnx.ModelProto, inside: frozenset[str]) -> tuple[Unit, ...]:
    """Return the nodes that may be INT8, those together that read the same activation.

    Args:
        model: prepared FP32 model.
        inside: names of the nodes.

    """
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.name in inside:
            readers.setdefault(node.input[0], []).append(node.name)
    return tuple(tuple(names) for names in readers.values())
