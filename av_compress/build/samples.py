# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames a build calibrates and judges on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from av_compress.build.recipe import Recipe, SampleConfig
from av_compress.data.base import FrameSource
from av_compress.data.sampling import SampleRequest, select, select_disjoint
from av_compress.data.sources import open_source
from av_compress.progress import track
from av_compress.tasks.base import ImageFrame


@dataclass(frozen=True)
class SampleSet:
    """Chosen frames of a source, read one at a time.

    Attributes:
        source: where they come from.
        indices: which frames, ascending.
        sampling: how they were chosen.

    """

    source: FrameSource
    indices: Sequence[int]
    sampling: str

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.indices)

    def frames(self, label: str) -> Iterator[ImageFrame]:
        """Read the frames in order, with a progress bar."""
        for index in track(self.indices, label):
            yield self.source.read(index)


@dataclass(frozen=True)
class BuildSamples:
    """The frames of a build; `gate` is None where the recipe has no gate."""

    calibration: SampleSet
    gate: SampleSet | None


def open_samples(recipe: Recipe, stack: ExitStack) -> BuildSamples:
    """Open the recipe's sources and choose frames, never the same ones for both purposes.

    Args:
        recipe: what to build.
        stack: closes the sources.

    Raises:
        ConfigError: a source's configuration is wrong.
        DataError: a source cannot be read, or has too few frames.

    """
    source = _open(recipe, recipe.calibration, stack)
    calibration = _request(source, recipe.calibration)
    if recipe.gate is None:
        return BuildSamples(_chosen(calibration, select(calibration)), None)
    wanted = recipe.gate.samples
    if wanted.source != recipe.calibration.source:
        source = _open(recipe, wanted, stack)
    gate = _request(source, wanted)
    indices = select_disjoint(calibration, gate)
    return BuildSamples(_chosen(calibration, indices[0]), _chosen(gate, indices[1]))


def _open(recipe: Recipe, config: SampleConfig, stack: ExitStack) -> FrameSource:
    return stack.enter_context(closing(open_source(config.source, recipe.folder)))


def _request(source: FrameSource, config: SampleConfig) -> SampleRequest:
    return SampleRequest(source, config.samples, config.sampling)


def _chosen(request: SampleRequest, indices: Sequence[int]) -> SampleSet:
    return SampleSet(request.source, indices, request.sampling)
