# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Observation in parts, by several processes or machines, and their merging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from av_compress.build.keys import ObservationKey
from av_compress.build.observing import Observation, observe
from av_compress.compress.observe.statistics import Statistics
from av_compress.compress.observe.store import read_header, read_store, write_store
from av_compress.errors import AvCompressError, DataError, UsageError
from av_compress.tensors import Array


@dataclass(frozen=True)
class Part:
    """One of several equal parts of the calibration samples: every `of`-th, from `number` on.

    Attributes:
        number: from 1.
        of: how many parts there are.

    """

    number: int
    of: int

    @staticmethod
    def parse(text: str) -> Part:
        """Read `2/3`.

        Raises:
            UsageError: it is none of these.

        """
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise UsageError(f"part {text!r} is not allowed; allowed: 1/3, 2/3, 3/3 and the like")
        return Part(int(number), int(of))

    def __str__(self) -> str:
        """Format as `2/3`."""
        return f"{self.number}/{self.of}"

    def positions(self, count: int) -> range:
        """Return which of `count` samples are in it.

        Raises:
            UsageError: none is.

        """
        if self.number > count:
            raise UsageError(f"part {self} of {count} frames is empty; make fewer parts")
        return range(self.number - 1, count, self.of)


@dataclass(frozen=True)
class PartialRun:
    """What was observed of some of the samples.

    Attributes:
        key: of the whole run.
        positions: of the samples that were seen, among all.
        description: what was observed, in words.

    """

    key: ObservationKey
    positions: tuple[int, ...]
    description: str


@dataclass(frozen=True)
class PartFile:
    """A file with runs over one part of the samples."""

    path: Path
    runs: tuple[PartialRun, ...]

    @staticmethod
    def open(path: Path) -> PartFile:
        """Read what a file holds, without its arrays.

        Raises:
            DataError: the file is absent, damaged, or no part.

        """
        header = read_header(path)
        try:
            runs = tuple(
                PartialRun(
                    ObservationKey.from_json(run["key"]),
                    tuple(run["positions"]),
                    run["description"],
                )
                for run in header["runs"]
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} was not written by av-compress observe") from error
        return PartFile(path, runs)

    def statistics(self, key: ObservationKey) -> Statistics:
        """Read what one of its runs has found.

        Raises:
            DataError: the file is damaged.

        """
        number = [run.key for run in self.runs].index(key)
        start = f"{number}/"
        _, arrays = read_store(self.path)
        return Statistics.from_state(
            {
                name.removeprefix(start): array
                for name, array in arrays.items()
                if name.startswith(start)
            }
        )


def write_part(path: Path, runs: Sequence[tuple[PartialRun, Statistics]], part: Part) -> None:
    """Write a part's runs, whole or not at all.

    Raises:
        AvCompressError: the disk is full or the folder cannot be written.

    """
    header = {
        "part": str(part),
        "runs": [
            {
                "key": run.key.to_json(),
                "positions": list(run.positions),
                "description": run.description,
            }
            for run, _ in runs
        ],
    }
    arrays: dict[str, Array] = {
        f"{number}/{name}": array
        for number, (_, statistics) in enumerate(runs)
        for name, array in statistics.state().items()
    }
    write_store(path, header, arrays)


@dataclass(frozen=True)
class MergedObserving:
    """Merges parts; see `observing.Observing`."""

    files: tuple[PartFile, ...]
    _used: list[PartFile] = field(default_factory=list)

    def holds(self, key: ObservationKey) -> bool:
        """Tell whether any part was observed under a key."""
        return any(run.key == key for file in self.files for run in file.runs)

    def statistics(self, observation: Observation) -> Statistics:
        """Merge the parts of a run, once each frame is seen to be in one of them.

        Raises:
            DataError: parts are missing, overlap, or are of something else.

        """
        key = observation.key
        holding = self._complete(observation, key)
        whole = holding[0].statistics(key)
        for file in holding[1:]:
            whole = whole.merged(file.statistics(key))
        self._used.extend(holding)
        return whole

    def _complete(self, observation: Observation, key: ObservationKey) -> list[PartFile]:
        seen: dict[int, Path] = {}
        holding = []
        for file in self.files:
            for run in file.runs:
                if run.key == key:
                    self._check_disjoint(observation, run, file.path, seen)
                    seen |= dict.fromkeys(run.positions, file.path)
                    holding.append(file)
        missing = len(observation.samples) - len(seen)
        if missing:
            raise DataError(self._explain(observation, key, missing, holding))
        return holding

    def _check_disjoint(
        self, observation: Observation, run: PartialRun, path: Path, seen: Mapping[int, Path]
    ) -> None:
        for position in run.positions:
            if position in seen:
                samples = observation.samples
                name = samples.source.key(samples.indices[position])
                raise DataError(
                    f"calibration frame {name} is both in {seen[position]} and in {path}; "
                    "give every part once, made by one division (1/3, 2/3, 3/3)"
                )

    def _explain(
        self,
        observation: Observation,
        key: ObservationKey,
        missing: int,
        holding: list[PartFile],
    ) -> str:
        count = len(observation.samples)
        what = f"{observation.description}: {missing} of {count} calibration frames are in no part"
        # A file that gave something else is of this build, from an earlier round.
        foreign = [file for file in self.files if file not in holding + self._used]
        for file in foreign:
            near = [run.key for run in file.runs if run.key.kind == key.kind]
            found = [list(key.differences(other)) for other in near]
            if found:
                least = min(found, key=len)
                return f"{what}; in {file.path} is another {', another '.join(least)}"
        again = " once more, with --observed," * (not holding and bool(self._used))
        return f"{what}; run av-compress observe{again} for every part and give all of its files"


class UnobservedError(AvCompressError):
    """A part was observed; what comes next needs all parts."""


@dataclass(frozen=True)
class PartObserving:
    """Observes one part of the samples; see `observing.Observing`.

    Attributes:
        part: which.
        earlier: parts of an earlier round, which decided the model that is observed now.
        runs: what was observed.

    """

    part: Part
    earlier: MergedObserving
    runs: list[tuple[PartialRun, Statistics]] = field(default_factory=list)

    def statistics(self, observation: Observation) -> Statistics:
        """Merge what the earlier round has, else observe the part.

        Raises:
            UnobservedError: the part was observed.
            DataError: see `MergedObserving.statistics` and `observing.observe`.

        """
        key = observation.key
        if self.earlier.holds(key):
            return self.earlier.statistics(observation)
        positions = self.part.positions(len(observation.samples))
        found = observe(observation, positions)
        run = PartialRun(key, tuple(positions), observation.description)
        self.runs.append((run, found))
        raise UnobservedError
