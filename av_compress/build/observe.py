# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""One part of what a build observes, by a process or machine of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from av_compress.build.basis import emitters_apart, make_basis, without_migration
from av_compress.build.gates import measuring_pipeline
from av_compress.build.parts import (
    MergedObserving,
    Part,
    PartFile,
    PartObserving,
    UnobservedError,
    write_part,
)
from av_compress.build.preparation import precision_rules, prepare
from av_compress.build.recipe import Recipe
from av_compress.build.samples import open_samples
from av_compress.errors import UsageError


def open_parts(paths: Sequence[Path]) -> MergedObserving:
    """Open what `observe_part` wrote, to build from.

    Raises:
        DataError: a file is absent, damaged, or no part.

    """
    return MergedObserving(tuple(PartFile.open(path) for path in paths))


def observe_part(
    recipe: Recipe, part: Part, earlier: MergedObserving, output: Path
) -> tuple[tuple[str, int], ...]:
    """Observe one part of the calibration samples, as far as can be done without the others.

    Where scales are migrated, the model whose values are counted is known once the channels of all
    frames are: that takes a second round, with the files of the first.

    Args:
        recipe: what is to be built.
        part: which of the samples.
        earlier: all files of the first round; none in it.
        output: file that is written.

    Returns:
        what was observed, in words, and of how many frames.

    Raises:
        ConfigError: the recipe does not fit the model or its sources.
        ModelError: the model cannot be compressed.
        DataError: samples are missing or unusable, or `earlier` is not complete.
        UsageError: everything was observed, or the part is empty.

    """
    preparation = prepare(recipe)
    task, model = preparation.task, preparation.prepared.model
    rules = precision_rules(recipe, task)
    observing = PartObserving(part, earlier)
    with ExitStack() as stack:
        # Opened for what it checks: that the model fits the task.
        stack.enter_context(closing(measuring_pipeline(task, model, exact=False)))
        samples = open_samples(recipe, task.frame_needs, stack).calibration
        for emitters, own in emitters_apart(recipe, rules):
            for each in (own, without_migration(own)) if own.migrate else (own,):
                with suppress(UnobservedError):
                    make_basis(recipe, model, each, task, samples, emitters, observing)
    if not observing.runs:
        raise UsageError(
            "the files of --observed hold everything; build with av-compress build --observed"
        )
    write_part(output, observing.runs, part)
    return tuple((run.description, len(run.positions)) for run, _ in observing.runs)
