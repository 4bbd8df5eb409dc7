# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which nodes of a graph compute in FP16, so that casts are few: a minimum cut.

Some nodes have to stay FP32. Wherever a tensor passes from a node of one type to nodes of the
other, one Cast stands. A node that could be either and lies between two FP32 nodes may be cheaper
in FP32, since two casts go with it. To choose the cheapest of all assignments is to cut a flow
network between a source, FP16, and a sink, FP32 (Kolmogorov and Zabih, What Energy Functions Can
Be Minimized via Graph Cuts?, 2004).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

# What a Cast costs, in units of a memory-bound node that computes in FP32 without need: an FP32
# island grows by at most so many nodes for each Cast that it saves.
CAST_COST = 4
# More than any graph's casts: such a node is never FP32 unless it has to be.
HEAVY = 1_000_000_000
_INFINITE = 1 << 60

# A node or, by its place, one of the two vertices of a tensor.
_Vertex = tuple[str, str]
_SOURCE, _SINK = ("source", ""), ("sink", "")


@dataclass(frozen=True)
class TypedTensor:
    """A float tensor between nodes.

    Attributes:
        producer: the node that makes it in its own type; None where it is made in FP32, as the
            inputs of a graph are.
        consumers: the nodes that read it in their own type.
        read_in_fp32: something reads it in FP32 whatever the nodes' types, e.g. the graph's
            outputs.

    """

    producer: str | None
    consumers: tuple[str, ...]
    read_in_fp32: bool


def choose_half(
    costs: Mapping[str, int], forced: Iterable[str], tensors: Sequence[TypedTensor]
) -> frozenset[str]:
    """Choose the nodes that compute in FP16.

    Args:
        costs: node -> what it costs in FP32; every node, those that have to be FP32 included.
        forced: nodes that have to be FP32.
        tensors: the float tensors between them.

    Returns:
        the nodes in FP16: CAST_COST times the number of casts plus the costs of the other nodes
        is the least possible. Of equally good choices it is the one with most nodes in FP16.

    """
    network = _Network()
    for name, cost in costs.items():
        network.join(_SOURCE, ("node", name), cost)
    for name in forced:
        network.join(("node", name), _SINK, _INFINITE)
    for number, tensor in enumerate(tensors):
        _add_tensor(network, f"{number}", tensor)
    network.saturate()
    fp32 = network.reaching_sink()
    return frozenset(name for name in costs if ("node", name) not in fp32)


def count_casts(half: frozenset[str], tensors: Sequence[TypedTensor]) -> int:
    """Return how many casts an assignment needs: at most one for each tensor."""
    return sum(_needs_cast(half, tensor) for tensor in tensors)


def _needs_cast(half: frozenset[str], tensor: TypedTensor) -> bool:
    made_in_half = tensor.producer in half
    if made_in_half and tensor.read_in_fp32:
        return True
    return any((name in half) != made_in_half for name in tensor.consumers)


def _add_tensor(network: _Network, number: str, tensor: TypedTensor) -> None:
    """Add edges that are cut, at the price of one cast, where a reader's type differs."""
    readers: list[_Vertex] = [("node", name) for name in tensor.consumers]
    producer = _SINK if tensor.producer is None else ("node", tensor.producer)
    # Cut where it is made in FP32, and anyone reads it in FP16.
    up = ("to FP16", number)
    network.join(up, producer, CAST_COST)
    for reader in readers:
        network.join(reader, up, _INFINITE)
    if tensor.producer is None:
        return
    # Cut where it is made in FP16, and anyone reads it in FP32.
    down = ("to FP32", number)
    network.join(producer, down, CAST_COST)
    for reader in [*readers, *([_SINK] if tensor.read_in_fp32 else [])]:
        network.join(down, reader, _INFINITE)


class _Network:
    """A flow network, and its maximum flow by Dinic's algorithm."""

    def __init__(self) -> None:
        self._left: dict[_Vertex, dict[_Vertex, int]] = {_SOURCE: {}, _SINK: {}}

    def join(self, start: _Vertex, end: _Vertex, capacity: int) -> None:
        """Add an edge; the capacities of parallel ones add up."""
        forward = self._left.setdefault(start, {})
        forward[end] = forward.get(end, 0) + capacity
        self._left.setdefault(end, {}).setdefault(start, 0)

    def saturate(self) -> None:
        """Push the maximum flow; what is left on the edges stays here."""
        while True:
            levels = self._levels()
            if _SINK not in levels:
                return
            self._block(levels)

    def reaching_sink(self) -> frozenset[_Vertex]:
        """Return the vertices from which the sink can still be reached."""
        sources: dict[_Vertex, list[_Vertex]] = {}
        for start, edges in self._left.items():
            for end, left in edges.items():
                if left:
                    sources.setdefault(end, []).append(start)
        found, stack = {_SINK}, [_SINK]
        while stack:
            for start in sources.get(stack.pop(), ()):
                if start not in found:
                    found.add(start)
                    stack.append(start)
        return frozenset(found)

    def _levels(self) -> dict[_Vertex, int]:
        levels, queue = {_SOURCE: 0}, deque([_SOURCE])
        while queue:
            start = queue.popleft()
            for end, left in self._left[start].items():
                if left and end not in levels:
                    levels[end] = levels[start] + 1
                    queue.append(end)
        return levels

    def _block(self, levels: Mapping[_Vertex, int]) -> None:
        """Push flow along shortest paths until each has a full edge."""
        edges = {start: list(ends) for start, ends in self._left.items()}
        path = [_SOURCE]
        while path:
            start = path[-1]
            if start == _SINK:
                path = self._push(path)
                continue
            while edges[start]:
                end = edges[start][-1]
                if self._left[start][end] and levels.get(end) == levels[start] + 1:
                    path.append(end)
                    break
                edges[start].pop()
            else:
                path.pop()
                if path:
                    edges[path[-1]].pop()

    def _push(self, path: list[_Vertex]) -> list[_Vertex]:
        """Send what a path bears along it; return it up to its first full edge."""
        steps = list(pairwise(path))
        amount = min(self._left[start][end] for start, end in steps)
        for start, end in steps:
            self._left[start][end] -= amount
            self._left[end][start] += amount
        full = next(i for i, (start, end) in enumerate(steps) if not self._left[start][end])
        return path[: full + 1]
