# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Affine migrations that nodes in front take over: nothing changes, and nothing is left to run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers_models import EVERYTHING, Network, prepared, samples
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from av_compress.compress.emit.holds import half_scale
from av_compress.compress.emit.insertion import symmetric_weight, weight_axis
from av_compress.compress.emit.quantize import weight_grid
from av_compress.compress.graph import GraphIndex
from av_compress.compress.layers import Layer
from av_compress.compress.plan.precision import Precision, make_plan
from av_compress.compress.refine.affine import Affine
from av_compress.compress.refine.insert import (
    descriptions,
    folds,
    insert_affines,
    insert_observably,
    output_factors,
    unfolded,
)
from av_compress.compress.refine.refine import round_weights
from av_compress.compress.refine.refinement import Refinement


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    index = GraphIndex(model)
    found = [Layer.of(index, node) for node in model.graph.node]
    return [layer for layer in found if layer is not None]


def random_affine(
    rng: np.random.Generator, layer: Layer, scaled: bool = True, shifted: bool = True
) -> Affine:
    count = layer.channels
    shifted = shifted and layer.node.op_type != "MatMul"
    return Affine(
        np.exp(rng.uniform(-2, 2, count)) if scaled else np.ones(count),
        rng.normal(size=count) if shifted else np.zeros(count),
    )


def doubled(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model in float64."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    del changed.graph.value_info[:]
    for value in (*changed.graph.input, *changed.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return changed


def results(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    exact = {name: value.astype(np.float64) for name, value in feeds.items()}
    return ReferenceEvaluator(doubled(model)).run(None, exact)


def assert_equal(model: onnx.ModelProto, changed: onnx.ModelProto) -> None:
    """Compare in float64: what differs is that constants are stored in float32."""
    onnx.checker.check_model(changed, full_check=True)
    feeds = samples(model, 1)[0]
    for expected, got in zip(results(model, feeds), results(changed, feeds)):
        error = np.abs(got - expected).max()
        assert error < 2e-5 * max(1.0, np.abs(expected).max())


def added(model: onnx.ModelProto, changed: onnx.ModelProto) -> Counter[str]:
    before, after = (Counter(n.op_type for n in m.graph.node) for m in (model, changed))
    return after - before


def chain(
    between: str, reader: str, seed: int, padded: bool = True
) -> tuple[onnx.ModelProto, Layer]:
    """Make convolution -> `between` -> a convolution, pointwise, 3 x 3 or depthwise."""
    net = Network(seed, channels=4, side=8)
    source = net.conv("image", 6)
    if between in {"Relu", "GlobalAveragePool", "Sigmoid"}:
        side = 1 if between == "GlobalAveragePool" else 8
        source = net.add(between, [source], 6, side)
    elif between == "LeakyRelu":
        source = net.add(between, [source], 6, 8, alpha=0.1)
    elif between == "PRelu":
        slope = net.constant(net.rng.normal(size=(6, 1, 1)).astype(np.float32))
        source = net.add(between, [source, slope], 6, 8)
    elif between.endswith("Pool"):
        window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4}
        source = net.add(between, [net.relu(source)], 6, 8, **window)
    elif between == "residual":
        source = net.add("Add", [source, net.conv(source, 6)], 6, 8)
    size = 3 if padded or reader == "depthwise" else 1
    made = net.conv(source, 6, size, group=6 if reader == "depthwise" else 1)
    if not padded and size == 3:
        attribute = next(a for a in net.nodes[-1].attribute if a.name == "pads")
        attribute.CopyFrom(helper.make_attribute("pads", [0] * 4))
        net.sides[made] -= 2
    model = net.model()
    model = onnx.shape_inference.infer_shapes(model)
    return model, layers_of(model)[-1]


PASSED = ("Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool")


@settings(max_examples=40, deadline=None)
@given(
    between=st.sampled_from(("", *PASSED, "Sigmoid", "residual")),
    reader=st.sampled_from(("ordinary", "depthwise")),
    padded=st.booleans(),
    scaled=st.booleans(),
    shifted=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_chains_stay_what_they_are(between, reader, padded, scaled, shifted, seed):
    if between == "GlobalAveragePool" and not padded:
        reader = "ordinary"
    model, layer = chain(between, reader, seed, padded)
    affine = random_affine(np.random.default_rng(seed), layer, scaled, shifted)
    before = model.SerializeToString()
    changed = insert_affines(model, {layer.name: affine})
    assert model.SerializeToString() == before
    assert_equal(model, changed)
    foldable = between not in {"Sigmoid", "residual"}
    left = shifted and (between != "" or padded)
    assert added(model, changed) == Counter(
        Mul=scaled and not foldable, Add=left, Pad=shifted and padded
    )


@pytest.mark.parametrize("why", ["read twice", "output", "not foldable", "too large", "too small"])
def test_what_others_read_or_fp16_does_not_hold_stays(why):
    net = Network(0, channels=4, side=8)
    source = net.relu(net.conv("image", 6))
    net.conv(source, 6, 1)
    model = net.model()
    if why == "read twice":
        model.graph.node.append(helper.make_node("Neg", [source], ["other"], name="neg"))
    if why in {"read twice", "output"}:
        name = "other" if why == "read twice" else source
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 6, 8, 8])
        model.graph.output.append(output)
    model = onnx.shape_inference.infer_shapes(model)
    layer = layers_of(model)[-1]
    factor = {"too large": 1e-6, "too small": 1e5}.get(why, 2.0)
    affine = Affine(np.full(6, factor), np.zeros(6), why != "not foldable")
    changed = insert_affines(model, {layer.name: affine})
    assert not folds(model, {layer.name: affine})
    assert added(model, changed) == Counter(Mul=1)
    assert_equal(model, changed)


def transformer(seed: int, split: bool) -> onnx.ModelProto:
    """Make a block of single-headed attention and a feed-forward part, 5 tokens of 8 channels.

    `split`: normalisations as the operators that exporters of older opsets write.
    """
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(*shape: int) -> str:
        name = f"c{len(constants)}"
        # None near zero, where FP16 would not hold them.
        value = rng.uniform(0.1, 0.8, shape) * rng.choice((-1, 1), shape)
        constants.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def add(op_type: str, *inputs: str, **attributes: object) -> str:
        name = f"t{len(nodes)}"
        nodes.append(helper.make_node(op_type, inputs, [name], name=f"n_{name}", **attributes))
        return name

    def normalise(source: str) -> str:
        if not split:
            return add("LayerNormalization", source, constant(8), constant(8))
        centred = add("Sub", source, add("ReduceMean", source, axes=[-1]))
        variance = add("ReduceMean", add("Mul", centred, centred), axes=[-1])
        normal = add("Div", centred, add("Sqrt", variance))
        return add("Add", add("Mul", normal, constant(8)), constant(8))

    def product(source: str, columns: int, rows: int = 8) -> str:
        return add("Add", constant(columns), add("MatMul", source, constant(rows, columns)))

    seen = normalise("x")
    query, key, value = (product(seen, 8) for _ in range(3))
    weights = add("Softmax", add("MatMul", query, add("Transpose", key, perm=[0, 2, 1])))
    mixed = add("Add", "x", product(add("MatMul", weights, value), 8))
    hidden = add("Relu", product(normalise(mixed), 16))
    last = add("Add", mixed, product(hidden, 8, 16))
    shape = [1, 5, 8]
    graph = helper.make_graph(
        nodes,
        "transformer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


@settings(max_examples=15, deadline=None)
@given(split=st.booleans(), seed=st.integers(0, 2**16))
def test_a_transformer_stays_what_it_is(split, seed):
    model = transformer(seed, split)
    rng = np.random.default_rng(seed)
    affines = {layer.name: random_affine(rng, layer) for layer in layers_of(model)}
    changed = insert_affines(model, affines)
    assert_equal(model, changed)
    # Queries, keys and values share what they read, the values are mixed by a product of two
    # activations; the feed-forward part reads a normalisation and, behind ReLU, a product.
    assert added(model, changed) == Counter(Mul=4)
    ends = [fold.nodes[-1].op_type for fold in folds(model, affines).values()]
    assert ends == ["Mul" if split else "LayerNormalization", "MatMul"]


@pytest.mark.parametrize("relu", [False, True])
def test_shifts_of_a_gemm_go_into_what_is_in_front(relu):
    rng = np.random.default_rng(2)
    constants = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in {"g": (8,), "w": (8, 6), "b": (6,), "v": (5, 6), "a": (5,)}.items()
    ]
    second = ["r"] if relu else ["f"]
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g"], ["n"], name="norm"),
        helper.make_node("Gemm", ["n", "w", "b"], ["f"], name="first"),
        *([helper.make_node("Relu", ["f"], ["r"], name="relu")] if relu else []),
        helper.make_node("Gemm", [*second, "v", "a"], ["y"], name="second", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 5])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    affines = {layer.name: random_affine(rng, layer) for layer in layers_of(model)}
    changed = insert_affines(model, affines)
    assert added(model, changed) == (Counter(Add=1) if relu else Counter())
    assert_equal(model, changed)
    words = descriptions(model, affines)
    assert words["first"].endswith("channels centred, folded into norm")
    assert words["second"].endswith("channels centred, folded into first")


def deep(seed: int) -> onnx.ModelProto:
    """Make what folds along a chain, beside what does not: a block of ShuffleNet's kind."""
    net = Network(seed, channels=4, side=6)
    net.conv(net.relu(net.conv("image", 6)), 6, 3, group=6)
    source = net.relu(net.conv(net.last, 8, 1))
    branch = net.conv(net.relu(net.conv(source, 8, 1)), 8)
    net.conv(net.relu(net.add("Add", [source, branch], 8, 6)), 5, 1)
    return net.model()


@pytest.fixture(scope="module", params=[Precision.FP32, Precision.FP16])
def forms(request, tmp_path_factory) -> tuple[onnx.ModelProto, Refinement, Refinement, bool]:
    """Return a model, its refinement with and without maps, and whether scales are FP16."""
    model = prepared(deep(3), tmp_path_factory.mktemp("m"))
    rng = np.random.default_rng(4)
    affines = {layer.name: random_affine(rng, layer) for layer in layers_of(model)}
    plan = replace(make_plan(model, EVERYTHING), base=request.param)
    grid = weight_grid(plan, "tensorrt")
    assert grid is not None
    inside, grids, feeds = plan.quantised(), {"tensorrt": grid}, samples(model, 2)
    migrated, plain = (
        Refinement(maps, round_weights(model, maps, inside, feeds, grids)["tensorrt"])
        for maps in (affines, {})
    )
    return model, migrated, plain, request.param is Precision.FP16


def integers(node: onnx.NodeProto, weight: np.ndarray, half: bool) -> np.ndarray:
    """Quantise as the form does."""
    how = symmetric_weight(weight, weight_axis(node), 127)
    scale = half_scale(how.scale) if half else how.scale
    steps = weight / scale.reshape(-1, 1, 1, 1)
    # Moved by nothing but FP16's rounding of scales, which is up and by at most 2^-10.
    assert np.abs(steps - np.rint(steps)).max() < (127.5 * 2**-10 if half else 1e-4)
    return np.rint(steps)


@settings(max_examples=40, deadline=None)
@given(chosen=st.sets(st.integers(0, 5)))
def test_any_nodes_may_be_int8(forms, chosen):
    """Whichever nodes' maps are dropped, the others' integers stay, and so does the function."""
    model, refinement, _, half = forms
    names = [layer.name for layer in layers_of(model)]
    inside = {names[i] for i in chosen}
    assert_equal(model, replace(refinement, weights={}).apply(model, inside))
    every = {x.name: x for x in layers_of(refinement.apply(model, names))}
    some = {x.name: x for x in layers_of(refinement.apply(model, inside))}
    for name in inside:
        expected = integers(every[name].node, every[name].weight, half)
        np.testing.assert_array_equal(integers(some[name].node, some[name].weight, half), expected)
        if half and inside == set(names):
            # What was rounded for the scales that are stored is stored with these scales.
            scale = symmetric_weight(some[name].weight, 0, 127).scale
            np.testing.assert_array_equal(half_scale(scale), scale)


@settings(max_examples=20, deadline=None)
@given(chosen=st.sets(st.integers(0, 5)))
def test_any_nodes_may_go_without_a_migration(forms, chosen):
    """Whichever nodes have the weights that were rounded without maps, integers stay."""
    model, migrated, plain, half = forms
    names = [layer.name for layer in layers_of(model)]
    dropped = {names[i] for i in chosen}
    mixed = migrated.without(dropped, plain)
    assert_equal(model, replace(mixed, weights={}).apply(model, names))
    whole = {
        refinement: {x.name: x for x in layers_of(forms[refinement].apply(model, names))}
        for refinement in (1, 2)
    }
    for layer in layers_of(mixed.apply(model, names)):
        expected = whole[2 if layer.name in dropped else 1][layer.name]
        np.testing.assert_array_equal(
            integers(layer.node, layer.weight, half),
            integers(expected.node, expected.weight, half),
        )


def test_biases_follow_what_is_folded(forms):
    model, refinement, *_ = forms
    names = [layer.name for layer in layers_of(model)]
    shifts = {n: np.full(len(refinement.weights[n].bias_shift), 0.5) for n in names}
    biased = Refinement(biases=shifts).apply(model, names)
    # Equal functions of the corrected model, with and without maps.
    assert_equal(biased, Refinement(refinement.affines, biases=shifts).apply(model, names))


def test_every_tensor_can_be_observed_in_one_run(forms):
    model, refinement, *_ = forms
    changed = insert_affines(model, refinement.affines)
    observable = insert_observably(model, refinement.affines)
    assert_equal(model, observable)
    feeds = samples(model, 1)[0]
    everything = tensors(observable, feeds)
    for name, value in (tensors(model, feeds) | tensors(changed, feeds)).items():
        if name not in everything:
            assert name.endswith("_scaled_padded")
            continue
        # Zeros may be padded before or behind a division.
        assert np.abs(everything[name]).max() == pytest.approx(np.abs(value).max(), rel=1e-3)


def tensors(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output]
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return dict(zip(names, ReferenceEvaluator(watched).run(None, feeds)))


def test_what_fp16_does_not_hold_in_front_of_an_activation_is_not_folded():
    model, layer = chain("Relu", "ordinary", 0)
    affines = {layer.name: Affine(np.full(6, 0.01), np.zeros(6))}
    ((old, new), *_) = list(folds(model, affines)[layer.name].renamed().items())[1:]
    assert unfolded(model, affines, {old: 6.0, new: 600.0}) == {layer.name}
    assert unfolded(model, affines, {old: 600.0, new: 600.0}) == set()
    assert unfolded(model, affines, {old: 6.0, new: 500.0}) == set()
    assert list(output_factors(model, affines)) == [layers_of(model)[0].name]
