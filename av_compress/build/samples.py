# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames a build calibrates and judges on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from av_compress.build.recipe import Recipe, SampleConfig
from av_compress.data.base import FrameSource
from av_compress.data.combined import combine
from av_compress.data.sampling import ChosenFrame, SampleRequest, select, select_disjoint
from av_compress.data.sources import open_source
from av_compress.fileio import canonical_json
from av_compress.progress import track
from av_compress.tasks.base import FrameNeeds


@dataclass(frozen=True)
class SampleSet:
    """Chosen frames of a source, read one at a time.

    Attributes:
        source: where they come from.
        indices: which frames, ascending.
        sampling: how they were chosen.
        hashes: hex SHA-256 of what each of them shows.

    """

    source: FrameSource
    indices: Sequence[int]
    sampling: str
    hashes: Sequence[str]

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.indices)

    def frames(self, label: str) -> Iterator[Any]:
        """Read the frames in order, with a progress bar."""
        return self.frames_at(range(len(self)), label)

    def frames_at(self, positions: Sequence[int], label: str) -> Iterator[Any]:
        """Read some of the frames by their positions among all, with a progress bar."""
        for position in track(positions, label):
            yield self.source.read(self.indices[position])


@dataclass(frozen=True)
class BuildSamples:
    """The frames of a build; `gate` is None where the recipe has no gate."""

    calibration: SampleSet
    gate: SampleSet | None


def open_samples(recipe: Recipe, needs: FrameNeeds, stack: ExitStack) -> BuildSamples:
    """Open the recipe's sources and choose frames, never the same ones for both purposes.

    Args:
        recipe: what to build.
        needs: what frames its task takes.
        stack: closes the sources.

    Raises:
        ConfigError: a source's configuration is wrong.
        DataError: a source cannot be read, or has too few frames.

    """
    opened = _Opened(recipe, needs, stack)
    calibration = opened.request(recipe.calibration)
    if recipe.gate is None:
        return BuildSamples(_chosen(calibration, select(calibration)), None)
    gate = opened.request(recipe.gate.samples)
    frames = select_disjoint(calibration, gate)
    return BuildSamples(_chosen(calibration, frames[0]), _chosen(gate, frames[1]))


class _Opened:
    """Opens every source once, however often the recipe names it."""

    def __init__(self, recipe: Recipe, needs: FrameNeeds, stack: ExitStack) -> None:
        self._folder, self._needs, self._stack = recipe.folder, needs, stack
        self._sources: dict[str, FrameSource] = {}

    def request(self, config: SampleConfig) -> SampleRequest:
        source = combine([self._open(one) for one in config.sources])
        return SampleRequest(source, config.samples, config.sampling)

    def _open(self, config: Mapping[str, Any]) -> FrameSource:
        name = canonical_json(config)
        if name not in self._sources:
            source = open_source(config, self._folder, self._needs)
            self._sources[name] = self._stack.enter_context(closing(source))
        return self._sources[name]


def _chosen(request: SampleRequest, frames: Sequence[ChosenFrame]) -> SampleSet:
    indices = tuple(frame.index for frame in frames)
    hashes = tuple(frame.sha256 for frame in frames)
    return SampleSet(request.source, indices, request.sampling, hashes)
