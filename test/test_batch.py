# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Batches: models whose batch is opened, and frames that share one run of an engine."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers_real import MODELS
from helpers_trt import rtx
from onnx import TensorProto, helper, numpy_helper
from test_build import recipe, world  # noqa: F401 (a fixture)

from av_compress.build.recipe import load_recipe
from av_compress.cli.main import main
from av_compress.compress.optimize.open_batch import open_batch, prove_batch, proven_open
from av_compress.compress.optimize.prepare import PrepareOptions, prepare_model
from av_compress.engines.batch import BatchPipeline
from av_compress.engines.bundle import load_bundle
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.engines.pipeline import Processed
from av_compress.errors import ConfigError, EngineError, FrameError, ModelError
from av_compress.tasks.base import ImageFrame

ONE_THREAD = OrtOptions(intra_op_threads=1)


def graph(nodes, constants, outputs=("y",), shape=(1, 4, 6, 6)) -> onnx.ModelProto:
    """Make a model of one input `x`; shapes of outputs are inferred."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def shuffled() -> onnx.ModelProto:
    """ShuffleNet's channel shuffle as PyTorch exports it: the batch is in the first extent."""
    nodes = [
        helper.make_node("Reshape", ["x", "joined"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["b", "halves"], ["c"]),
        helper.make_node("Gather", ["c", "second"], ["y"], axis=0),
    ]
    constants = {
        "joined": ints(2, 2, 36),
        "halves": ints(2, -1, 2, 6, 6),
        "second": np.array(1, np.int64),
    }
    return graph(nodes, constants)


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def frames(count: int, shape=(4, 6, 6)) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(count, *shape)).astype(np.float32)


def test_a_shuffle_of_channels_keeps_frames_apart():
    opened = open_batch(shuffled())
    x = frames(3)
    (y,) = run(opened, x)
    # Channel 2k+j goes to channel k of half j; the second half is taken.
    np.testing.assert_array_equal(y, x[:, 1::2])


@pytest.mark.parametrize("half", [ints(2, 1, 2, 6, 6), ints(2, -1, 2, 6, 6)])
def test_a_batch_in_the_middle_is_found(half):
    model = shuffled()
    for tensor in model.graph.initializer:
        if tensor.name == "halves":
            tensor.CopyFrom(numpy_helper.from_array(half, "halves"))
    assert prove_batch(open_batch(model), 3) == 0.0


def test_targets_that_hold_the_batch_are_replaced_and_names_stay():
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["f"], allowzero=1),
        helper.make_node("Reshape", ["f", "flat_again"], ["y"]),
        helper.make_node("Reshape", ["x", "rows"], ["z"]),
    ]
    constants = {"flat": ints(1, 144), "flat_again": ints(1, -1), "rows": ints(1, 2, 72)}
    opened = open_batch(graph(nodes, constants, ("y", "z")))
    y, z = run(opened, frames(5))
    np.testing.assert_array_equal(y, frames(5).reshape(5, 144))
    np.testing.assert_array_equal(z, frames(5).reshape(5, 2, 72))
    first = {v.name: v.type.tensor_type.shape.dim[0].dim_param for v in opened.graph.output}
    assert first == {"y": "batch", "z": "batch"}
    assert {t.name for t in opened.graph.initializer}.isdisjoint(constants)


def test_a_resize_to_fixed_sizes_gets_scales():
    nodes = [
        helper.make_node("Resize", ["x", "", "", "sizes"], ["a"], mode="nearest"),
        helper.make_node("Resize", ["a", "", "", "more"], ["y"], mode="linear", axes=[2, 3]),
    ]
    model = graph(nodes, {"sizes": ints(1, 4, 12, 9), "more": ints(24, 18)})
    x = frames(3)
    (y,) = run(open_batch(model), x)
    np.testing.assert_array_equal(
        y, np.concatenate([run(model, x[i : i + 1])[0] for i in range(3)])
    )


@pytest.mark.parametrize(
    ("nodes", "constants", "words"),
    [
        (
            [helper.make_node("Reshape", ["x", "all"], ["a"]),
             helper.make_node("Softmax", ["a"], ["y"], axis=0)],
            {"all": ints(-1, 36)},
            "output y is [4, 36] for one frame and [4 n, 36] for n frames",
        ),
        (
            [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)],
            {"axes": ints(0)},
            "output y is [1, 4, 6, 6] for one frame and [1, 4, 6, 6] for n frames",
        ),
        (
            [helper.make_node("Transpose", ["x"], ["a"], perm=[1, 0, 2, 3]),
             helper.make_node("Reshape", ["a", "odd"], ["b"]),
             helper.make_node("Reshape", ["b", "back"], ["y"])],
            {"odd": ints(3, 48), "back": ints(1, 4, 6, 6)},
            "reshapes [4, 1, 6, 6] to [3, 48], which divides the frames of a batch",
        ),
        (
            [helper.make_node("ReduceMax", ["x", "axes"], ["m"], keepdims=1),
             helper.make_node("Div", ["x", "m"], ["y"])],
            {"axes": ints(0)},
            "frames at once give results that differ",
        ),
    ],
    ids=["classes over the batch", "mean over the batch", "divided", "scaled by the batch"],
)  # fmt: skip
def test_a_model_that_mixes_frames_is_refused(nodes, constants, words):
    with pytest.raises(ModelError) as caught:
        proven_open(graph(nodes, constants), 3)
    assert words in str(caught.value)
    assert "leave optimize.max_batch out" in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 4, 6, 6), ("n", 4, 6, 6), (1, 4, "h", 6)])
def test_only_one_frame_of_static_shape_can_be_opened(shape):
    model = graph([helper.make_node("Relu", ["x"], ["y"])], {}, shape=shape)
    with pytest.raises(ModelError, match="not one frame of static shape"):
        open_batch(model)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("tiny_pfe", "tiny_e2e")])
def test_real_models_take_several_frames(shared_data, name):
    path = shared_data / MODELS[name] / f"{name}.onnx"
    source = onnx.load(path)
    constants = {tensor.name for tensor in source.graph.initializer}
    shapes = {
        value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        for value in source.graph.input
        if value.name not in constants
    }
    model = prepare_model(path, PrepareOptions(shapes)).model
    assert proven_open(model, 3).deviation <= 1e-5


# Bundles


@pytest.fixture(scope="module")
def bundle(world: Path) -> Path:
    output = world / "batched"
    changes = {"emitters": ["tensorrt", "cpu"], "optimize": {"max_batch": 3}}
    path = recipe(world, "batched.yaml", **changes)
    assert main(["build", str(path), "--output", str(output)]) == 0
    return output


def images(count: int) -> list[ImageFrame]:
    rng = np.random.default_rng(3)
    sizes = [(192, 320), (120, 160), (240, 240), (192, 320), (100, 300)]
    return [
        ImageFrame(rng.integers(0, 256, (*sizes[i % 5], 3), np.uint8), stamp_ns=i)
        for i in range(count)
    ]


def assert_equal(first, second) -> None:
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_bundle_says_how_many_frames_it_takes(bundle: Path, capsys):
    assert main(["inspect", str(bundle)]) == 0
    assert "batch: up to 3 frames at once" in capsys.readouterr().out
    loaded = load_bundle(bundle)
    assert loaded.manifest.max_batch == 3
    for emitter in ("tensorrt", "cpu"):
        model = onnx.load_model_from_string(loaded.read_artefact(emitter))
        for value in (*model.graph.input, *model.graph.output):
            assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    report = (bundle / "report.html").read_text()
    assert "up to 3 frames at once give what each gives alone" in report


@pytest.mark.parametrize("emitter", ["tensorrt", "cpu"])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_frames_together_are_what_they_are_alone(bundle: Path, emitter, count):
    loaded = load_bundle(bundle)
    with (
        closing(loaded.open_pipeline("onnxruntime", ONE_THREAD, emitter)) as single,
        closing(loaded.open_pipeline("onnxruntime", ONE_THREAD, emitter, batched=True)) as batched,
    ):
        assert batched.limit == 3
        # Low, so that there is something to compare on noise.
        single.task = batched.task = single.task.with_score_threshold(0.001)
        given = images(count)
        alone = [single.process(image) for image in given]
        assert sum(len(one.result) for one in alone) > 0
        for one, other in zip(alone, batched.process_all(given), strict=True):
            assert_equal(one.result, other.result)
        assert batched.process_all([]) == []


def test_a_frame_that_cannot_be_used_does_not_cost_the_others(bundle: Path):
    given = images(5)
    bad = ImageFrame(np.zeros((0, 0, 3), np.uint8))
    with closing(load_bundle(bundle).open_pipeline(batched=True)) as pipeline:
        wanted = [one.result for one in pipeline.process_all(given)]
        found = pipeline.process_all([bad, given[0], given[1], bad, *given[2:], bad])
        assert [isinstance(one, FrameError) for one in found] == [
            *(True, False, False, True, False, False, False, True)
        ]
        for one, result in zip([f for f in found if isinstance(f, Processed)], wanted):
            assert_equal(one.result, result)
        assert all(isinstance(one, FrameError) for one in pipeline.process_all([bad, bad]))


class Counting:
    """An engine that remembers how many frames each run had."""

    def __init__(self, engine) -> None:
        self._engine, self.sizes = engine, []
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.description = engine.description

    def run(self, tensors):
        (array,) = tensors.values()
        self.sizes.append(len(array))
        return self._engine.run(tensors)

    def close(self) -> None:
        self._engine.close()


def test_frames_are_divided_into_runs_and_share_their_time(bundle: Path):
    loaded = load_bundle(bundle)
    engine = Counting(loaded.open_engine())
    pipeline = BatchPipeline(loaded.task(), engine, loaded.manifest.max_batch)
    found = pipeline.process_all(images(7))
    assert engine.sizes == [3, 3, 1]
    assert len({json.dumps(one.spans) for one in found}) == 1
    # A plan may be for fewer.
    engine.max_batch = 2
    BatchPipeline(loaded.task(), engine, 3).process_all(images(3))
    assert engine.sizes[3:] == [2, 1]
    pipeline.close()


def test_a_model_of_fixed_batch_runs_frame_by_frame(world: Path, tmp_path: Path):
    output = tmp_path / "plain"
    path = recipe(world, "plain.yaml", emitters=["cpu"], candidates=["fp32"])
    assert main(["build", str(path), "--output", str(output)]) == 0
    loaded = load_bundle(output)
    engine = Counting(loaded.open_engine(options=ONE_THREAD))
    pipeline = BatchPipeline(loaded.task(), engine, 4)
    assert pipeline.limit == 1
    found = pipeline.process_all(images(3))
    assert engine.sizes == [1, 1, 1]
    with closing(loaded.open_pipeline(options=ONE_THREAD)) as single:
        for image, one in zip(images(3), found):
            assert_equal(one.result, single.process(image).result)
    pipeline.close()


def test_an_engine_that_loses_frames_is_told(bundle: Path):
    loaded = load_bundle(bundle)
    engine = Counting(loaded.open_engine())
    run = engine.run

    def lose(tensors):
        result = run(tensors)
        result.outputs.update({name: a[:1] for name, a in result.outputs.items()})
        return result

    engine.run = lose
    pipeline = BatchPipeline(loaded.task(), engine, 3)
    with pytest.raises(EngineError, match="for a batch of 2 frames"):
        pipeline.process_all(images(2))
    pipeline.close()


def test_open_extents_beside_the_batch_are_refused(bundle: Path):
    loaded = load_bundle(bundle)
    model = onnx.load_model_from_string(loaded.read_artefact("cpu"))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    engine = OnnxRuntimeEngine(model.SerializeToString())
    with pytest.raises(ModelError, match=r"open extents beside the batch.*static_shapes"):
        BatchPipeline(loaded.task(), engine, 3)
    engine.close()


def test_ranges_of_the_whole_batch_are_refused_in_the_recipe(world: Path):
    path = recipe(world, "dynamic.yaml", emitters=["cpu_dynamic"], optimize={"max_batch": 2})
    with pytest.raises(ConfigError, match=r"optimize\.max_batch: not with the form cpu_dynamic"):
        load_recipe(path)


def test_a_plan_is_compiled_for_a_range_of_batches(bundle: Path, capsys):
    rtx()
    command = ["compile", str(bundle), "--backend", "tensorrt_rtx", "--compute-capability", "8.9"]
    assert main([*command, "--batch", "1,2,3", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["target"]["options"]["batch"] == [1, 2, 3]
    assert printed["account"]["kernels"] > 0
