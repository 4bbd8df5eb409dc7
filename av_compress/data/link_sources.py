# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Whose word counts where several sources tell of one frame: that of the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from av_compress.data.transforms import NS_PER_S

SILENCE_S = 1.0


@dataclass(frozen=True)
class Claim:
    """Who tells of a frame.

    Attributes:
        source: topic.
        parent: the frame that it is told in.
        moves: whether it is told over time; else it holds for all times.

    """

    source: str
    parent: str
    moves: bool = True

    def __str__(self) -> str:
        """Name source and parent."""
        return f"by {self.source} in {self.parent!r}"


@dataclass
class _Owner:
    """Attributes: since: rival -> its first stamp since the owner's last."""

    claim: Claim
    last_ns: int
    yields: bool
    since: dict[Claim, int] = field(default_factory=dict)

    def heard(self, stamp_ns: int) -> None:
        self.last_ns = stamp_ns
        self.since.clear()

    def silent_for(self, rival: Claim, stamp_ns: int) -> bool:
        """Tell whether the owner was silent for so long, by its own stamp or by the rival's.

        By the rival's, since its clock may have begun anew.
        """
        since_ns = self.since.setdefault(rival, stamp_ns)
        if stamp_ns < since_ns:
            since_ns = self.since[rival] = stamp_ns
        earliest = min(self.last_ns, since_ns)
        return self.yields and (stamp_ns - earliest) / NS_PER_S > SILENCE_S


class LinkSources:
    """Keeps to one source for each frame.

    Two sources of one frame do not agree: each calls another parent, or lies metres from the
    other, and a motion out of both is none. So a frame belongs to the source and the parent that
    told of it first, until these have been silent for `SILENCE_S` of stamps; what others say is
    left out, of which each is told once. What holds for all times is never silent.
    """

    def __init__(self, begin_anew: Callable[[str], None], ignored: Callable[[str], None]) -> None:
        """Know no source yet.

        Args:
            begin_anew: is told of a frame whose source is another from now on.
            ignored: is told of sources that are left out.

        """
        self._begin_anew, self._ignored = begin_anew, ignored
        self._owners: dict[str, _Owner] = {}
        self._told: set[tuple[str, Claim]] = set()

    def forget(self) -> None:
        """Begin anew: whoever tells of a frame next is its first source."""
        self._owners.clear()
        self._told.clear()

    def choose(self, child: str, claim: Claim) -> None:
        """Let a frame belong to a source for good, however long that is silent."""
        self._owners[child] = _Owner(claim, 0, yields=False)

    def accepts(self, child: str, claim: Claim, stamp_ns: int) -> bool:
        """Tell whether a message on a frame counts."""
        owner = self._owners.get(child)
        if owner is None:
            self._owners[child] = _Owner(claim, stamp_ns, yields=claim.moves)
            return True
        if owner.claim == claim:
            owner.heard(stamp_ns)
            return True
        if owner.silent_for(claim, stamp_ns):
            self._begin_anew(child)
            self._owners[child] = _Owner(claim, stamp_ns, yields=claim.moves)
            return True
        self._tell(child, owner, claim)
        return False

    def _tell(self, child: str, owner: _Owner, rival: Claim) -> None:
        if (child, rival) in self._told:
            return
        self._told.add((child, rival))
        until = f" until the first has been silent for {SILENCE_S:g} s" if owner.yields else ""
        self._ignored(
            f"frame {child!r} is told {owner.claim} and {rival}; the second is left out{until}: "
            "stop one of the two, or remap it"
        )
