# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames to take: spread out, and never the same ones for two purposes.

The same sources and counts always give the same frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import numpy.typing as npt

from av_compress.data.base import FrameSource
from av_compress.data.combined import CombinedSource
from av_compress.data.content import content_sha256, thumbnail
from av_compress.errors import DataError, FrameError
from av_compress.progress import track

# How many frames each way of sampling looks at for each one that it takes.
_LOOKED_AT = {"stride": 1, "coverage": 8}

SAMPLINGS = tuple(_LOOKED_AT)

# Calibration and gate frames of one source alternate in at most this many blocks each, and the
# gaps between the blocks take at most this share of all frames.
_MOST_BLOCKS = 8
_GAP_SHARE = 20

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SampleRequest:
    """How many frames of a source, and how chosen.

    Attributes:
        source: where the frames are.
        count: how many to choose.
        sampling: `stride` takes frames evenly spaced by index; `coverage` spreads them over time
            and over what they show.

    """

    source: FrameSource
    count: int
    sampling: str

    def __post_init__(self) -> None:
        """Refuse what is not in `SAMPLINGS` and counts below 1."""
        if self.sampling not in SAMPLINGS or self.count < 1:
            raise ValueError(f"{self.count} frames by {self.sampling!r}: one of {SAMPLINGS}")


@dataclass(frozen=True)
class ChosenFrame:
    """A frame that was chosen: its index in the source, and the SHA-256 of what it shows."""

    index: int
    sha256: str


def stride(n: int, count: int) -> tuple[int, ...]:
    """Choose `count` of `n` frames, evenly spaced by index, each from the middle of its share.

    Raises:
        DataError: there are fewer than `count`.

    """
    if n < count:
        raise DataError(f"{count} frames are wanted, there are {n}")
    return tuple((2 * place + 1) * n // (2 * count) for place in range(count))


def select(request: SampleRequest) -> tuple[ChosenFrame, ...]:
    """Choose frames, all of which can be decoded.

    Every member of a combined source gives as many as any other, as far as it has them.

    Returns:
        The chosen, by ascending index.

    Raises:
        DataError: the source has too few frames that can be decoded.

    """
    return _choose(_shares(request, {}), {}, {}, frozenset())


def select_disjoint(
    calibration: SampleRequest, gate: SampleRequest
) -> tuple[tuple[ChosenFrame, ...], tuple[ChosenFrame, ...]]:
    """Choose frames to calibrate on and frames to judge on, never the same ones.

    Where both take frames of the same source object, alone or in combined sources, it is cut into
    blocks of time that alternate between the two, and frames that can be spared are left out where
    the blocks meet, so that neighbours that show almost the same are not on both sides. In any
    case no gate frame shows what a calibration frame shows. All chosen frames can be decoded.

    Returns:
        The chosen for calibration and for the gate, by ascending index.

    Raises:
        DataError: there are too few frames, too few that can be decoded, or too few that differ.

    """
    own = _shares(calibration, {})
    others = _shares(gate, {id(share.request.source): share.request.count for share in own})
    pairs = [(a, b) for a in own for b in others if a.request.source is b.request.source]
    blocks = {id(a.request.source): _blocks(a.request, b.request) for a, b in pairs}
    looks: dict[int, _Looks] = {}
    chosen = _choose(own, {key: pair[0] for key, pair in blocks.items()}, looks, frozenset())
    taken = frozenset(frame.sha256 for frame in chosen)
    return chosen, _choose(others, {key: pair[1] for key, pair in blocks.items()}, looks, taken)


@dataclass(frozen=True)
class _Look:
    """What sampling needs of a frame.

    Attributes:
        index: its place in the source.
        stamp_ns: its time in nanoseconds.
        thumbnail: what it shows; see `content.thumbnail`.
        sha256: hash of what it shows.

    """

    index: int
    stamp_ns: int
    thumbnail: Floats
    sha256: str


@dataclass
class _Looks:
    """Looks at the frames of a source, each taken once; None for frames that cannot be decoded.

    Attributes:
        source: where the frames are.
        seen: index -> what was seen.
        reason: why the first of those that cannot be decoded could not be.

    """

    source: FrameSource
    seen: dict[int, _Look | None] = field(default_factory=dict)
    reason: str = ""

    def at(self, indices: Sequence[int]) -> list[_Look | None]:
        fresh = [index for index in indices if index not in self.seen]
        for index in track(fresh, f"look at {self.source.description}"):
            self.seen[index] = self._look(index)
        return [self.seen[index] for index in indices]

    def _look(self, index: int) -> _Look | None:
        try:
            frame = self.source.read(index)
        except FrameError as error:
            self.reason = self.reason or str(error)
            return None
        return _Look(index, frame.stamp_ns, thumbnail(frame), content_sha256(frame))


@dataclass(frozen=True)
class _Share:
    """What a source, or one member of a combined source, has to give.

    Attributes:
        request: source, count and sampling.
        first: index of the member's first frame in the whole source.

    """

    request: SampleRequest
    first: int


def _shares(request: SampleRequest, given: Mapping[int, int]) -> list[_Share]:
    """Divide a request among the members of its source.

    Args:
        request: for the whole source.
        given: id of a source -> how many of its frames others take.

    """
    source = request.source
    if not isinstance(source, CombinedSource):
        return [_Share(request, 0)]
    free = [max(0, len(member) - given.get(id(member), 0)) for member in source.members]
    if sum(free) < request.count:
        raise DataError(
            f"{request.count} frames of {source.description} are wanted, there are {sum(free)} "
            "to choose from; ask for fewer samples or record more"
        )
    return [
        _Share(replace(request, source=member, count=count), first)
        for member, first, count in zip(source.members, source.firsts, _even(request.count, free))
        if count
    ]


def _even(total: int, free: Sequence[int]) -> list[int]:
    """Divide a total as evenly as what is free of each allows; the earlier take what is over."""
    given = [0] * len(free)
    while total:
        unfilled = [place for place, most in enumerate(free) if given[place] < most]
        part = max(1, total // len(unfilled))
        for place in unfilled:
            more = min(part, free[place] - given[place], total)
            given[place] += more
            total -= more
    return given


def _choose(
    shares: Sequence[_Share],
    pools: Mapping[int, Sequence[int]],
    looks: dict[int, _Looks],
    taken: frozenset[str],
) -> tuple[ChosenFrame, ...]:
    """Choose every share, from its pool or else from its whole source."""
    chosen = []
    for share in shares:
        source = share.request.source
        pool = pools.get(id(source), range(len(source)))
        book = looks.setdefault(id(source), _Looks(source))
        chosen += [
            ChosenFrame(share.first + look.index, look.sha256)
            for look in _select(share.request, pool, book, taken)
        ]
    return tuple(chosen)


def _select(
    request: SampleRequest, pool: Sequence[int], looks: _Looks, taken: frozenset[str]
) -> list[_Look]:
    """Choose from `pool`; frames that turn out damaged or taken are replaced by others."""
    usable = list(pool)
    while len(usable) >= request.count:
        most = _LOOKED_AT[request.sampling] * request.count
        candidates = [usable[place] for place in stride(len(usable), min(len(usable), most))]
        found = [look for look in looks.at(candidates) if look and look.sha256 not in taken]
        if len(found) == len(candidates):
            return _spread_out(found, request.count)
        refused = set(candidates) - {look.index for look in found}
        usable = [index for index in usable if index not in refused]
    why = "can be decoded" + (" and differ from the calibration frames" if taken else "")
    first = f" (the first that cannot be decoded: {looks.reason})" if looks.reason else ""
    raise DataError(
        f"{request.count} frames of {request.source.description} are wanted; of the {len(pool)} "
        f"to choose from at most {len(usable)} {why}{first}; ask for fewer samples or record more"
    )


def _blocks(calibration: SampleRequest, gate: SampleRequest) -> tuple[list[int], list[int]]:
    """Cut one source into alternating blocks, with unused frames between them where possible."""
    n, wanted = len(calibration.source), (calibration.count, gate.count)
    spare = n - sum(wanted)
    if spare < 0:
        raise DataError(
            f"{wanted[0]} frames to calibrate on and {wanted[1]} to judge on are wanted, "
            f"{calibration.source.description} has {n}; they are never the same, so ask for fewer "
            "samples, record more, or give the gate a source of its own"
        )
    pairs = min(_MOST_BLOCKS, *wanted)
    borders = 2 * pairs - 1
    gap = min(spare // borders, max(1, n // (_GAP_SHARE * borders)))
    usable = n - gap * borders
    own = min(max(wanted[0], usable * wanted[0] // sum(wanted)), usable - wanted[1])
    shares = zip(_pieces(own, pairs), _pieces(usable - own, pairs))
    start, parts = 0, []
    for size in chain.from_iterable(shares):
        parts.append(range(start, start + size))
        start += size + gap
    return list(chain(*parts[0::2])), list(chain(*parts[1::2]))


def _pieces(total: int, parts: int) -> list[int]:
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


def _spread_out(looks: Sequence[_Look], count: int) -> list[_Look]:
    """Choose `count` looks by farthest-point sampling over time and thumbnail.

    T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985. The first is
    the one nearest to the mean, so that the outcome depends on the frames alone.
    """
    if len(looks) == count:
        return list(looks)
    features = _features(looks)
    chosen = [int((features**2).sum(axis=1).argmin())]
    nearest = np.full(len(looks), np.inf)
    while len(chosen) < count:
        distance = ((features - features[chosen[-1]]) ** 2).sum(axis=1)
        nearest = np.minimum(nearest, distance)
        nearest[chosen[-1]] = -1.0  # Below every distance, so that none is taken twice.
        chosen.append(int(nearest.argmax()))
    return [looks[place] for place in sorted(chosen)]


def _features(looks: Sequence[_Look]) -> Floats:
    """Return [looks, 65]: time and thumbnail, each with the largest distance from its mean 1."""
    stamps = np.array([look.stamp_ns for look in looks], np.float64)
    if np.ptp(stamps) == 0:  # Files have no stamps; their order stands in for time.
        stamps = np.array([look.index for look in looks], np.float64)
    scene = np.array([look.thumbnail for look in looks])
    return np.concatenate((_scaled(stamps[:, None]), _scaled(scene)), axis=1)


def _scaled(values: Floats) -> Floats:
    centered = values - values.mean(axis=0)
    largest = float(np.sqrt((centered**2).sum(axis=1).max()))
    return np.asarray(centered / largest if largest > 0 else centered, np.float64)
