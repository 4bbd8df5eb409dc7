# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Names for what is added to a model: the usual one where the model has none like it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from av_compress.compress.graph import subgraphs


def free_name(wanted: str, taken: set[str]) -> str:
    """Return a name that is not taken: the wanted one, or with the first free number behind."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name


def tensor_names(graph: onnx.GraphProto) -> set[str]:
    """Return the names of all tensors, those of subgraphs among them: they may hide no other."""
    return set(_tensors(graph))


class Names:
    """Gives out names that neither the model has nor anybody else was given."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Take the names that are there."""
        self._tensors = tensor_names(graph)
        self._nodes = {node.name for node in graph.node}

    def tensor(self, wanted: str) -> str:
        """Return a name for a tensor."""
        return take_name(wanted, self._tensors)

    def node(self, wanted: str) -> str:
        """Return a name for a node."""
        return take_name(wanted, self._nodes)


def take_name(wanted: str, taken: set[str]) -> str:
    """Return a free name, which is taken from then on."""
    name = free_name(wanted, taken)
    taken.add(name)
    return name


def _tensors(graph: onnx.GraphProto) -> Iterator[str]:
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (*node.input, *node.output)
        for inner in subgraphs(node):
            yield from _tensors(inner)
