# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Random graphs out of the blocks that detectors, planners and transformers are made of.

`random_graph(seed, kinds)` is deterministic; `graphs()` is the hypothesis strategy over it, which
shrinks to few blocks. Weights are scaled so that activations stay near 1 however deep the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from helpers_graph_builder import RandomGraph
from hypothesis import strategies as st


def _conv(g: RandomGraph, source: str) -> str:
    stride = 2 if g.shapes[source][2] >= 8 and g.rng.random() < 0.3 else 1
    channels, size = g.pick([3, 4, 8]), g.pick([1, 3, 5])
    return g.activated(g.conv(source, channels, size, strides=[stride] * 2))


def _grouped(g: RandomGraph, source: str) -> str:
    wide = g.conv(source, 8, 1)
    return g.activated(g.conv(wide, g.pick([4, 8]), 3, group=g.pick([2, 4])))


def _depthwise(g: RandomGraph, source: str) -> str:
    channels = g.shapes[source][1]
    return g.conv(g.activated(g.conv(source, channels, 3, group=channels)), 6, 1)


def _dilated(g: RandomGraph, source: str) -> str:
    return g.activated(g.conv(source, 4, 3, pads=[2] * 4, dilations=[2, 2]))


def _transposed_conv(g: RandomGraph, source: str) -> str:
    _, channels, height, width = g.shapes[source]
    if height >= 32:
        return _conv(g, source)
    weight = g.normal((channels, 4, 2, 2), channels)
    bias = g.constant(g.rng.normal(0, 0.1, 4))
    shape = (1, 4, 2 * height, 2 * width)
    return g.activated(g.add("ConvTranspose", [source, weight, bias], shape, strides=[2, 2]))


def _batch_norm(g: RandomGraph, source: str) -> str:
    conv = g.conv(source, 6, g.pick([1, 3]))
    positive = [g.constant(g.rng.uniform(0.5, 1.5, 6)) for _ in range(2)]
    centred = [g.constant(g.rng.normal(0, 0.2, 6)) for _ in range(2)]
    return g.activated(g.same("BatchNormalization", conv, positive[0], *centred, positive[1]))


def _affine(g: RandomGraph, source: str) -> str:
    """Per-channel constants multiplied and added, before a convolution and behind one."""
    channels = g.shapes[source][1]
    factors = g.constant(g.rng.uniform(0.5, 2, (1, channels, 1, 1)))
    offsets = g.constant(g.rng.normal(0, 0.3, (channels, 1, 1)))
    before = g.same(g.pick(["Add", "Sub"]), g.same("Mul", source, factors), offsets)
    pad = int(g.rng.integers(2)) if min(g.shapes[source][2:]) >= 5 else 1
    conv = g.conv(before, 5, 3, pads=[pad] * 4)
    behind = g.same("Div", conv, g.constant(g.rng.uniform(1, 2, (1, 5, 1, 1))))
    return g.activated(g.same("Add", behind, g.constant(0.25)))


def _residual(g: RandomGraph, source: str) -> str:
    channels = g.shapes[source][1]
    inner = g.conv(g.activated(g.conv(source, 8, 1)), channels, 3)
    return g.activated(g.same("Add", source, inner))


def _concat(g: RandomGraph, source: str) -> str:
    alike = [name for name in g.images if g.shapes[name][2:] == g.shapes[source][2:]]
    parts = [source, g.pick(alike), g.conv(source, 4, 1)]
    channels = sum(g.shapes[part][1] for part in parts)
    shape = (1, channels, *g.shapes[source][2:])
    return g.conv(g.add("Concat", parts, shape, axis=1), 6, 1)


def _shuffle(g: RandomGraph, source: str) -> str:
    """ShuffleNet's block: two halves joined, their channels shuffled, split again."""
    _, _, height, width = g.shapes[source]
    wide = g.conv(source, 8, 1)
    split = g.reshaped(wide, (1, 2, 4, height, width))
    mixed = g.reshaped(g.transposed(split, (0, 2, 1, 3, 4)), (1, 8, height, width))
    bounds = [g.constant([value], np.int64) for value in (0, 4, 8, 1)]
    shape = (1, 4, height, width)
    halves = [
        g.add("Slice", [mixed, bounds[i], bounds[i + 1], bounds[3]], shape) for i in range(2)
    ]
    inner = g.activated(g.conv(halves[1], 4, 3))
    return g.add("Concat", [halves[0], inner], (1, 8, height, width), axis=1)


def _resize(g: RandomGraph, source: str) -> str:
    _, channels, height, width = g.shapes[source]
    if height >= 32:
        return _pool(g, source)
    scales = g.constant([1, 1, 2, 2])
    mode = g.pick(["nearest", "linear"])
    how = {"coordinate_transformation_mode": "asymmetric"}
    if mode == "nearest":
        how["nearest_mode"] = "floor"
    shape = (1, channels, 2 * height, 2 * width)
    return g.add("Resize", [source, "", scales], shape, mode=mode, **how)


def _pool(g: RandomGraph, source: str) -> str:
    _, channels, height, width = g.shapes[source]
    attributes: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1] * 4}
    kind = g.pick(["MaxPool", "AveragePool"])
    if kind == "AveragePool":
        attributes["count_include_pad"] = int(g.rng.integers(2))
    if height < 4 or g.rng.random() < 0.5:
        return g.same(kind, source, **attributes)
    attributes["strides"] = [2, 2]
    return g.add(kind, [source], (1, channels, -(-height // 2), -(-width // 2)), **attributes)


def _padded(g: RandomGraph, source: str) -> str:
    """A Pad of its own before a convolution or a pool, as TensorFlow's exporters write it."""
    _, channels, height, width = g.shapes[source]
    pads = g.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    source = g.same("Relu", source)
    padded = g.add("Pad", [source, pads], (1, channels, height + 2, width + 2))
    kind = g.pick(["Conv", "MaxPool", "AveragePool"])
    if kind == "Conv":
        weight = g.normal((4, channels, 3, 3), 9 * channels)
        return g.add("Conv", [padded, weight], (1, 4, height, width))
    return g.add(kind, [padded], (1, channels, height, width), kernel_shape=[3, 3])


def _focus(g: RandomGraph, source: str) -> str:
    """YOLOX's focus: four shifted grids of every second pixel, joined, then a convolution."""
    _, channels, height, width = g.shapes[source]
    if height % 2 or width % 2 or height < 8:
        return _conv(g, source)
    parts = []
    for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
        part = source
        for axis, start in ((2, row), (3, column)):
            limits = [g.constant([v], np.int64) for v in (start, 2**31 - 1, axis, 2)]
            shape = list(g.shapes[part])
            shape[axis] //= 2
            part = g.add("Slice", [part, *limits], shape)
        parts.append(part)
    joined = g.add("Concat", parts, (1, 4 * channels, height // 2, width // 2), axis=1)
    return g.activated(g.conv(joined, 8, g.pick([1, 3])))


def _channels_last(g: RandomGraph, source: str) -> str:
    """Element-wise work between a transpose and its inverse."""
    last = g.transposed(source, (0, 2, 3, 1))
    channels = g.shapes[source][1]
    scaled = g.same("Mul", last, g.constant(g.rng.uniform(0.5, 2, channels)))
    worked = g.same("Add", g.same("Relu", scaled), g.constant(g.rng.normal(0, 0.1, channels)))
    return g.conv(g.transposed(worked, (0, 3, 1, 2)), 4, 1)


def _excited(g: RandomGraph, source: str) -> str:
    """Squeeze and excitation."""
    channels = g.shapes[source][1]
    squeezed = g.add("GlobalAveragePool", [source], (1, channels, 1, 1))
    gate = g.conv(g.same("Relu", g.conv(squeezed, 4, 1)), channels, 1)
    doubled = g.same("Mul", g.same("Sigmoid", gate), g.constant(2))
    return g.same("Mul", source, doubled)


def _tokens(g: RandomGraph, source: str) -> str:
    _, channels, height, width = g.shapes[source]
    flat = g.reshaped(source, (1, channels, height * width))
    return g.transposed(flat, (0, 2, 1))


def _image(g: RandomGraph, tokens: str, like: str) -> str:
    shape = (1, g.shapes[tokens][2], *g.shapes[like][2:])
    return g.reshaped(g.transposed(tokens, (0, 2, 1)), shape)


def _matmul(g: RandomGraph, source: str) -> str:
    """A perceptron over the channels of every cell."""
    hidden = g.same("Relu", g.linear(_tokens(g, source), 8))
    return _image(g, g.linear(hidden, 6), source)


def _attention(g: RandomGraph, source: str) -> str:
    """Two-headed self-attention over the cells, with LayerNorm and a residual connection."""
    tokens = g.linear(_tokens(g, source), 8)
    read = g.normalised(tokens)
    count = g.shapes[tokens][1]
    heads = []
    for perm in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)):
        heads.append(g.transposed(g.reshaped(g.linear(read, 8), (1, count, 2, 4)), perm))
    scores = g.add("MatMul", heads[:2], (1, 2, count, count))
    weights = g.same("Softmax", g.same("Div", scores, g.constant(2)), axis=-1)
    mixed = g.add("MatMul", [weights, heads[2]], (1, 2, count, 4))
    joined = g.reshaped(g.transposed(mixed, (0, 2, 1, 3)), (1, count, 8))
    return _image(g, g.same("Add", tokens, g.linear(joined, 8)), source)


def _gemm(g: RandomGraph, source: str) -> str:
    """A head behind Flatten: it becomes an output, and the graph goes on from its source."""
    flat = g.add("Flatten", [source], (1, int(np.prod(g.shapes[source]))), axis=1)
    depth = g.shapes[flat][1]
    hidden = g.add(
        "Gemm",
        [flat, g.normal((8, depth), depth), g.constant(g.rng.normal(0, 0.1, 8))],
        (1, 8),
        transB=1,
    )
    inputs = [g.same("Relu", hidden), g.normal((8, 6), 8), g.constant(g.rng.normal(0, 0.1, 6))]
    factors = {"alpha": g.pick([0.5, 1.0, -2.0]), "beta": g.pick([1.0, 0.25, 3.0])}
    head = g.add("Gemm", inputs[: g.pick([2, 3])], (1, 6), **factors)
    g.outputs.append(head)
    return source


def _litter(g: RandomGraph, source: str) -> str:
    """What exporters leave behind: dead and double nodes, identities, computed shapes."""
    g.same("Relu", g.conv(source, 4, 1))
    shape = g.add("Shape", [source], (4,))
    parts = [
        g.add("Gather", [shape, g.constant([i], np.int64)], (1,), axis=0) for i in (0, 1, 2, 3)
    ]
    rebuilt = g.add("Concat", parts, (4,), axis=0)
    same = g.add("Reshape", [g.same("Identity", source), rebuilt], g.shapes[source])
    first, second = g.same("Sigmoid", same), g.same("Sigmoid", same)
    return g.same("Add", g.same("Mul", first, same), second)


BLOCKS: Mapping[str, Callable[[RandomGraph, str], str]] = {
    "conv": _conv,
    "grouped": _grouped,
    "depthwise": _depthwise,
    "dilated": _dilated,
    "transposed_conv": _transposed_conv,
    "batch_norm": _batch_norm,
    "affine": _affine,
    "residual": _residual,
    "concat": _concat,
    "shuffle": _shuffle,
    "resize": _resize,
    "pool": _pool,
    "padded": _padded,
    "focus": _focus,
    "channels_last": _channels_last,
    "excited": _excited,
    "matmul": _matmul,
    "attention": _attention,
    "gemm": _gemm,
    "litter": _litter,
}


def random_graph(seed: int, kinds: Sequence[str], opset: int = 13) -> onnx.ModelProto:
    """Return a valid model of a block of each kind in turn, joined at random, with a 1x1 head.

    Args:
        seed: of everything that `kinds` leaves open: sources, sizes, weights.
        kinds: keys of `BLOCKS`.
        opset: 13 to 17.

    """
    g = RandomGraph(seed, channels=(3, 4, 8)[seed % 3])
    for kind in kinds:
        # Mostly a chain; sometimes an earlier tensor, so that branches arise.
        source = g.images[-1] if g.rng.random() < 0.7 else g.pick(g.images)
        g.images.append(BLOCKS[kind](g, source))
    head = g.conv(g.images[-1], 5, 1)
    g.outputs.append(head)
    # Branches that nobody read are outputs too, or all of them would be dead.
    read = {name for node in g.nodes for name in node.input}
    g.outputs += [name for name in g.images[1:] if name not in read]
    return g.model(opset)


def graphs(
    kinds: Sequence[str] = tuple(BLOCKS), most: int = 6
) -> st.SearchStrategy[onnx.ModelProto]:
    """Return the strategy of graphs of one to `most` blocks."""
    return st.builds(
        random_graph,
        st.integers(0, 10_000),
        st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=most),
        st.sampled_from([13, 15, 17]),
    )


def feeds(model: onnx.ModelProto, count: int = 4, seed: int = 5) -> list[dict[str, np.ndarray]]:
    """Return standard normal inputs."""
    rng = np.random.default_rng(seed)
    return [
        {
            value.name: rng.normal(
                size=[dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
            ).astype(np.float32)
            for value in model.graph.input
        }
        for _ in range(count)
    ]
