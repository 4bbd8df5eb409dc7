# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Where a build's observations come from: a run over the samples, or what earlier runs kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import onnx

from av_compress.build.cache import CalibrationCache
from av_compress.build.keys import ObservationKey
from av_compress.build.samples import SampleSet
from av_compress.cachefolder import cache_folder
from av_compress.compress.observe.statistics import ObserverRun, Statistics, Wanted
from av_compress.data.content import content_sha256
from av_compress.errors import AvCompressError, DataError
from av_compress.tasks.base import Task


@dataclass(frozen=True)
class Observation:
    """A run of observers over the calibration samples.

    Attributes:
        model: what is run.
        wanted: what is observed.
        task: makes its input tensors.
        samples: the frames.

    """

    model: onnx.ModelProto
    wanted: Wanted
    task: Task[Any, Any]
    samples: SampleSet

    @property
    def key(self) -> ObservationKey:
        """All that its outcome depends on."""
        return ObservationKey.of(self.model, self.wanted, self.task, self.samples.hashes)

    @property
    def description(self) -> str:
        """In words: what of how many tensors."""
        counts = {
            "values": len(self.wanted.histograms),
            "channels": len(self.wanted.channels),
        }
        return " and ".join(f"{what} of {n} tensors" for what, n in counts.items() if n)


class Observing(Protocol):
    """A way to come by what observers find."""

    def statistics(self, observation: Observation) -> Statistics:
        """Return what is observed over all samples.

        Raises:
            DataError: a sample or an activation is not finite, the frame is named; or there is no
                such observation.

        """
        ...


class DirectObserving:
    """Runs the observers."""

    def statistics(self, observation: Observation) -> Statistics:
        """Run over every sample; see `Observing.statistics`."""
        return observe(observation, range(len(observation.samples)))


@dataclass(frozen=True)
class CachedObserving:
    """Takes from the cache what is there, and keeps there what is not.

    Attributes:
        cache: the cache.
        say: is told, a line at a time, what was found, and why something was not.

    """

    cache: CalibrationCache
    say: Callable[[str], None]
    _seen: set[str] = field(default_factory=set)

    def statistics(self, observation: Observation) -> Statistics:
        """Find or run; see `Observing.statistics`."""
        key = observation.key
        found = self._find(key)
        if found is None:
            self._say_why(observation, key)
            found = DirectObserving().statistics(observation)
            self._keep(key, found)
        else:
            self.say(f"calibration cache: {observation.description} were observed earlier")
        self._seen.add(key.sha256)
        return found

    def _find(self, key: ObservationKey) -> Statistics | None:
        try:
            return self.cache.find(key)
        except DataError as error:
            self.say(f"calibration cache: an entry is ignored: {error}")
            return None

    def _say_why(self, observation: Observation, key: ObservationKey) -> None:
        # What this build has just kept is near and differs, but is not what was looked for.
        differences = self.cache.nearest(key, self._seen)
        if differences:
            self.say(
                f"calibration cache: {observation.description} are observed anew; other than in "
                f"the nearest entry: {', '.join(differences)}"
            )

    def _keep(self, key: ObservationKey, found: Statistics) -> None:
        try:
            self.cache.keep(key, found)
        except AvCompressError as error:
            self.say(f"calibration cache: nothing is kept: {error}")


def open_observing(cached: bool, say: Callable[[str], None] = print) -> Observing:
    """Return the usual way to observe: by the cache in the user's folder, or by a run each time.

    Raises:
        UsageError: there is no home folder and no variable that names another.

    """
    if not cached:
        return DirectObserving()
    return CachedObserving(CalibrationCache(cache_folder() / "calibration"), say)


def observe(observation: Observation, positions: Sequence[int]) -> Statistics:
    """Run the observers over some of the samples, one at a time.

    Args:
        observation: what to observe.
        positions: of the samples among all of the calibration.

    Raises:
        DataError: a sample or an activation is not finite, or a frame is no longer what was
            chosen; it is named.

    """
    samples, task = observation.samples, observation.task
    run = ObserverRun(observation.model, observation.wanted)
    label = f"observe {observation.description}"
    for position, frame in zip(positions, samples.frames_at(positions, label)):
        if content_sha256(frame) != samples.hashes[position]:
            raise DataError(
                f"calibration frame {frame.key}: it shows something else than a moment ago; "
                "build again when nobody writes to its source"
            )
        try:
            run.observe(task.preprocess(frame).tensors, position)
        except DataError as error:
            raise DataError(f"calibration frame {frame.key}: {error}") from error
    return run.statistics
