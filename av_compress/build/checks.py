# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The conditions of a gate, checked on one candidate: accuracy, single classes, size, speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from av_compress.build.gates import ClassLoss
from av_compress.build.recipe import GateConfig
from av_compress.engines.manifest import CheckRecord, GateRecord
from av_compress.engines.measurements import SpeedRecord
from av_compress.report.numbers import percent, size

PASSED, FAILED, NOT_JUDGED = "passed", "failed", "not_judged"


def check_accuracy(record: GateRecord) -> CheckRecord:
    """Check the loss in the gate's metric."""
    loss = round(record.reference - record.candidate, 4)
    return CheckRecord(
        "accuracy",
        loss,
        record.max_loss,
        _verdict(record.passed),
        f"{'gained' if loss < 0.0 else 'lost'} {abs(loss):.2f} points of {record.metric} "
        f"({record.reference:.2f} to "
        f"{record.candidate:.2f}) on {record.frames} frames, allowed {record.max_loss:.2f}",
    )


def check_classes(config: GateConfig, losses: Mapping[str, ClassLoss]) -> Iterator[CheckRecord]:
    """Check the class that loses most; yields nothing where the recipe does not ask for it."""
    limit = config.max_loss_per_class
    if limit is None:
        return
    held = _held(config, losses)
    if not held:
        reason = f"no class has {config.min_truths} true objects"
        yield CheckRecord("class", None, limit, NOT_JUDGED, reason)
        return
    # The first in the alphabet of those that lose as much.
    name, worst = min(held.items(), key=lambda item: (-item[1].points, item[0]))
    over = sorted(n for n, loss in held.items() if loss.points > limit and n != name)
    others = f" (over it too: {', '.join(over)})" if over else ""
    reason = (
        f"class {name} lost most: {worst.points:.2f} points of {config.metric} on "
        f"{worst.truths} objects, allowed {limit:.2f}{others}"
        if worst.points > 0.0
        else f"no class with {config.min_truths} objects lost any point of {config.metric}"
    )
    yield CheckRecord("class", worst.points, limit, _verdict(worst.points <= limit), reason)


def worst_class_loss(config: GateConfig, losses: Mapping[str, ClassLoss]) -> float | None:
    """Return what the class loses that loses most, in points; None where none is looked at."""
    return max((loss.points for loss in _held(config, losses).values()), default=None)


def loss_by_limits(config: GateConfig, loss: float, worst: float | None) -> float:
    """Return one figure for the loss over all classes and that of the worst class.

    Whichever is nearer to its limit, or farther beyond it, in shares of the limit; in points of
    the loss over all classes. A share of `max_loss` is held where that share of either limit is.

    Args:
        config: the limits.
        loss: over all classes, in points.
        worst: of the class that loses most; None where no class is looked at.

    """
    limit = config.max_loss_per_class
    if limit is None or worst is None:
        return loss
    if worst > limit:
        beyond = (worst - limit) / _measure(limit)
        return max(loss, config.max_loss + beyond * _measure(config.max_loss))
    # Within a limit of no points at all there is nothing to have a share of.
    return max(loss, config.max_loss * (worst / limit) if limit else min(worst, 0.0))


def check_size(config: GateConfig, found: int, source: int) -> Iterator[CheckRecord]:
    """Check the file's size in bytes against the recipe's limit, if there is one."""
    limit = config.size.limit(source)
    if limit is not None:
        yield CheckRecord(
            "size",
            found,
            limit,
            _verdict(found <= limit),
            f"{size(found)}, {percent(found / source, 0)} of the source, allowed {size(limit)}",
        )


def check_speed(
    config: GateConfig, measured: SpeedRecord | None, why_not: str
) -> Iterator[CheckRecord]:
    """Check the speed against the next higher precision, if the recipe asks for one.

    The figure is not in the record: the manifest holds no times.

    Args:
        config: the limit.
        measured: the comparison; None where there was none to make.
        why_not: why there was none.

    """
    limit = config.speed.min_speedup
    if limit is None:
        return
    if measured is None:
        yield CheckRecord("speed", None, limit, NOT_JUDGED, why_not)
        return
    passed = measured.speedup >= limit
    yield CheckRecord(
        "speed",
        None,
        limit,
        _verdict(passed),
        f"{'at least' if passed else 'not'} {limit:.2f} times as fast as {measured.against}",
    )


def excess(check: CheckRecord, measured: SpeedRecord | None) -> float:
    """Return by how much of its limit a candidate missed it; 0 where it did not."""
    if check.verdict != FAILED:
        return 0.0
    if check.figure is None:
        return check.limit / measured.speedup - 1.0 if measured is not None else 0.0
    return (check.figure - check.limit) / _measure(check.limit)


def _measure(limit: float) -> float:
    """Return what an excess is a share of; for a limit of no points at all, a tenth of a point."""
    return max(limit, 0.1)


def _held(config: GateConfig, losses: Mapping[str, ClassLoss]) -> dict[str, ClassLoss]:
    """Return the classes with enough true objects to be held to a limit."""
    return {name: loss for name, loss in losses.items() if loss.truths >= config.min_truths}


def _verdict(passed: bool) -> str:
    return PASSED if passed else FAILED
