# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Passes that move transposes, orders of channels and places, on graphs made for them."""

from __future__ import annotations

import pytest
from helpers_graphs import Graph, kinds
from test_optimize_passes import changed, untouched

from av_compress.compress.optimize.fold_places import FoldPlaces
from av_compress.compress.optimize.layout import ShortenLayout
from av_compress.compress.optimize.transposes import CancelTransposes


class TestCancelTransposes:
    def test_an_island_of_everything(self):
        g = Graph()
        first = g.op("Transpose", g.conv("x", 4, 4, 1), perm=[0, 2, 3, 1])
        second = g.op("Transpose", "x", perm=[0, 2, 3, 1])
        gated = g.op("Mul", first, g.op("Sigmoid", first))
        summed = g.op("Add", g.op("Add", gated, second), g.normal(4))
        joined = g.op("Concat", g.op("Mul", summed, g.normal(8, 8, 4)), second, axis=-1)
        limited = g.op("Clip", joined, g.const(-1), g.const(1))
        back = g.op("Transpose", limited, perm=[0, 3, 1, 2])
        other = g.op("Transpose", g.op("PRelu", joined, g.positive(8)), perm=[0, 3, 1, 2])
        model = g.model([g.conv(back, 8, 4), other])
        assert "Transpose" not in kinds(changed(CancelTransposes(), model))

    @pytest.mark.parametrize("why", ["an output", "read by a reduction", "another order", "entry"])
    def test_left_alone(self, why):
        g = Graph()
        turned = g.op("Transpose", "x", perm=[0, 2, 3, 1])
        other = turned if why != "entry" else g.op("Reshape", "x", g.ints(1, 8, 8, 4))
        island = g.op("Relu", g.op("Add", turned, other))
        perm = [0, 3, 2, 1] if why == "another order" else [0, 3, 1, 2]
        outputs = [g.op("Transpose", island, perm=perm)]
        if why == "an output":
            outputs.append(island)
        if why == "read by a reduction":
            outputs.append(g.op("ReduceMean", island, g.ints(3)))
        untouched(CancelTransposes(), g.model(outputs))


class TestShortenLayout:
    def test_what_ends_where_it_began_is_nothing(self):
        g = Graph()
        turned = g.op("Transpose", g.op("Relu", "x"), perm=[0, 2, 3, 1])
        back = g.op("Transpose", turned, perm=[0, 3, 1, 2])
        same = g.op("Reshape", back, g.ints(1, 4, 8, 8))
        first = g.op("Slice", same, g.ints(0), g.ints(3), g.ints(1))
        rest = g.op("Slice", same, g.ints(3), g.ints(4), g.ints(1))
        joined = g.op("Concat", first, rest, axis=1)
        model = g.model([g.op("Abs", joined), g.op("Neg", back)])
        assert kinds(changed(ShortenLayout(), model)) == ["Relu", "Abs", "Neg"]

    def test_an_output_that_is_nothing_but_its_source(self):
        g = Graph()
        turned = g.op("Transpose", g.op("Relu", "x"), perm=[0, 2, 3, 1])
        model = g.model(g.op("Transpose", turned, perm=[0, 3, 1, 2], output="result"))
        assert kinds(changed(ShortenLayout(), model)) == ["Relu"]

    def test_chains_become_one(self):
        g = Graph()
        turned = g.op("Transpose", "x", perm=[0, 2, 3, 1])
        again = g.op("Abs", g.op("Transpose", turned, perm=[0, 2, 3, 1]))
        flat = g.op("Reshape", g.op("Unsqueeze", "x", g.ints(2)), g.ints(0, -1))
        part = g.op("Slice", "x", g.ints(1), g.ints(4), g.ints(1))
        part = g.op("Abs", g.op("Slice", part, g.ints(1), g.ints(3), g.ints(1)))
        model = g.model([again, g.op("Abs", flat), part], {"x": ["n", 4, 8, 8]})
        result = changed(ShortenLayout(), model, batch=3)
        expected = ["Transpose", "Abs", "Reshape", "Slice", "Abs", "Abs"]
        assert sorted(kinds(result)) == sorted(expected)

    def test_a_reshape_to_one_frame_stays_where_frames_are_dynamic(self):
        g = Graph()
        joined = g.op("Reshape", g.op("Transpose", "x", perm=[0, 1, 3, 2]), g.ints(1, -1))
        model = g.model(g.op("Abs", joined), {"x": ["n", 4, 8, 8]})
        untouched(ShortenLayout(), model)

    def test_channel_shuffles_stay(self):
        g = Graph()
        halves = shuffled(g)
        untouched(ShortenLayout(), g.model([g.op("Abs", half) for half in halves]))


def shuffled(g: Graph, split: bool = True) -> list[str]:
    groups = g.op("Reshape", "x", g.ints(1, 2, 2, 8, 8))
    turned = g.op("Transpose", groups, perm=[0, 2, 1, 3, 4])
    mixed = g.op("Reshape", turned, g.ints(1, 4, 8, 8))
    if not split:
        return [mixed]
    return [g.op("Slice", mixed, g.ints(i), g.ints(i + 2), g.ints(1)) for i in (0, 2)]


class TestFoldPlaces:
    def test_a_shuffle_before_a_convolution(self):
        g = Graph()
        model = g.model(g.conv(shuffled(g, split=False)[0], 4, 5))
        assert kinds(changed(FoldPlaces(), model)) == ["Conv"]

    def test_grouped_convolutions_stay(self):
        g = Graph()
        untouched(FoldPlaces(), g.model(g.conv(shuffled(g, split=False)[0], 4, 4, group=2)))

    @pytest.mark.parametrize("transposed", [0, 1])
    def test_a_transpose_before_a_flattened_map(self, transposed):
        g = Graph()
        turned = g.op("Transpose", "x", perm=[0, 2, 3, 1])
        flat = g.op("Flatten", turned, axis=1)
        weight = g.normal(5, 256) if transposed else g.normal(256, 5)
        product = g.op("Gemm", flat, weight, g.normal(5), transB=transposed)
        other = g.op("MatMul", flat, g.normal(256, 3))
        model = g.model([product, other], {"x": ["n", 4, 8, 8]})
        result = changed(FoldPlaces(), model, batch=2)
        assert sorted(kinds(result)) == ["Flatten", "Flatten", "Gemm", "MatMul"]
