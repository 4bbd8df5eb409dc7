# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Lint: advice, other targets than the one that can be tried here, the build, the command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from helpers_models import EVERYTHING, prepared, quantised, residual_network, samples
from helpers_qdq import CHANNELS, IMAGE, Draft, convolution, floats, paired, residual
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from test_compress_quantize import networks

from av_compress.cli.lint import TARGET_NAMES
from av_compress.cli.main import main
from av_compress.compress.emit import quantize as forms
from av_compress.compress.emit.quantize import quantize, tensors_to_observe
from av_compress.compress.lint.differences import DIFFERENCES
from av_compress.compress.lint.lint import broken, lint_model, refuse_broken_form
from av_compress.compress.lint.table import RULES
from av_compress.compress.lint.targets import EVERY, TARGETS, TENSORRT, find_target
from av_compress.compress.observe.calibrate import Calibrator
from av_compress.compress.plan.precision import make_plan
from av_compress.errors import ModelError, UsageError


def rules(model: onnx.ModelProto, target: str = "tensorrt-10.3") -> dict[str, list[str]]:
    """Return rule -> nodes, of everything that is broken."""
    found: dict[str, list[str]] = {}
    for one in lint_model(model, target):
        found.setdefault(one.rule.id, []).append(one.node)
    return found


def test_the_table_is_whole():
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    for rule in RULES:
        assert rule.targets <= EVERY
        assert rule.targets
        assert rule.title
        assert rule.consequence
        assert rule.fix
    assert tuple(TARGETS) == TARGET_NAMES


def test_every_rule_on_which_rtx_and_tensorrt_differ_says_how_and_by_what_source():
    known = {rule.id: rule for rule in RULES}
    named = [one.rule for one in DIFFERENCES]
    assert len(set(named)) == len(named)
    assert set(named) <= set(known)
    for one in DIFFERENCES:
        assert one.rtx
        assert one.tensorrt
        assert one.source
    apart = {
        name for name, rule in known.items() if rule.targets & TENSORRT not in (set(), TENSORRT)
    }
    assert apart <= set(named)


def test_every_fact_of_a_target_has_a_source():
    for target in TARGETS.values():
        assert set(target.sources) == {
            *("opset_min", "opset_max", "types", "quantised", "symmetric", "half_scales"),
            *("mixed_scales", "unsupported"),
        }
        assert target.opset_min < target.opset_max
        assert target.quantised <= target.types
    assert [name for name, target in TARGETS.items() if target.fp8] == [
        *("tensorrt-10.3", "tensorrt-10.16", "tensorrt-11", "rtx-1.7")
    ]
    assert not TARGETS["tensorrt-8.6"].int4
    assert TARGETS["cpu"].uint8


def test_a_violation_says_where_and_what_to_do():
    (one,) = lint_model(convolution().const("x_zero", np.uint8(0)).model(), "tensorrt-11")
    assert (one.node, one.rule.id) == ("x_q", "zero-point-uint8")
    assert str(one) == (
        "x_q: makes UINT8 [zero-point-uint8]; quantise symmetrically to INT8, with a zero point "
        "of INT8"
    )


def test_the_model_stays_as_it_is():
    model = convolution().const("x_scale", np.float32(0)).model()
    before = model.SerializeToString(deterministic=True)
    lint_model(model, "rtx-1.7")
    assert model.SerializeToString(deterministic=True) == before


def test_errors_come_first_and_advice_last():
    draft = convolution().const("x_scale", np.float32(0)).const("w_zero", np.zeros(16, np.uint8))
    severities = [v.rule.severity.value for v in lint_model(draft.model(), "tensorrt-10.16")]
    assert severities == sorted(severities, key=["error", "trap", "advice"].index)
    assert set(severities) >= {"error", "trap"}


def test_advice_on_residual_additions():
    assert rules(residual("skip").model()) == {}
    assert rules(residual().model()) == {"residual-skip": ["sum"]}
    both = rules(residual("branch", "skip").model())
    assert both["residual-branch"] == ["sum"]


def test_advice_on_pairs_before_activations():
    assert rules(paired("Relu", "y_d").model()) == {"pair-before-activation": ["y_q"]}
    assert rules(paired("MaxPool", "y_d", kernel_shape=[1, 1]).model()) == {}


def test_advice_on_operators_between_int8_and_float():
    pool = paired("AveragePool", "y_d", kernel_shape=[1, 1]).node("Relu", "z", "r")
    assert rules(pool.output("r", IMAGE).model()) == {"one-sided": ["z"]}
    pool.drop("r").node("QuantizeLinear", "z x_scale x_zero", "z_q")
    pool.node("DequantizeLinear", "z_q x_scale x_zero", "r")
    assert rules(pool.model()) == {}


def test_advice_on_concatenations_of_different_scales():
    draft = paired("Concat", "y_d x_d", axis=1)
    draft.node("QuantizeLinear", "z x_scale x_zero", "z_q")
    draft.node("DequantizeLinear", "z_q x_scale x_zero", "r").output("r", [1, 32, 8, 8])
    assert rules(draft.model()) == {}
    draft.const("other", np.float32(0.25)).rewire("y_q", 1, "other").rewire("y_d", 1, "other")
    assert rules(draft.model()) == {"concat-scales": ["z"]}


def test_advice_on_weights_biases_and_what_is_left_over():
    draft = convolution().drop("w_q").const("w_q", np.full((16, 16, 3, 3), -128, np.int8))
    assert rules(draft.model()) == {"weight-of-128": ["conv"]}
    draft = convolution().node("QuantizeLinear", "y x_scale x_zero", "y_q")
    assert rules(draft.model()) == {"integers-unread": ["y_q"]}
    draft = convolution().before("conv", "DequantizeLinear", "b_q x_scale x_zero", "b_d")
    draft.before("b_d", "QuantizeLinear", "b x_scale x_zero", "b_q").rewire("conv", 2, "b_d")
    assert rules(draft.model()) == {"bias-quantised": ["conv"]}
    draft = convolution().drop("x_q", "x_d").rewire("conv", 0, "x")
    assert rules(draft.model()) == {"weight-alone": ["conv"]}
    assert rules(convolution(group=CHANNELS).model(), "rtx-1.7") == {"depthwise-padded": ["conv"]}
    assert rules(convolution(group=CHANNELS).model()) == {}


def test_advice_on_scales_that_fp16_holds_badly():
    draft = convolution(np.float16).const("x_scale", np.float16(3e-5))
    assert rules(draft.model()) == {"half-scale-subnormal": ["x_q", "x_d"]}
    assert rules(convolution().const("x_scale", np.float32(3e-5)).model()) == {}


def test_what_only_the_oldest_release_refuses():
    assert rules(convolution().model(17), "tensorrt-8.6") == {}
    half = rules(convolution(np.float16).model(), "tensorrt-8.6")
    assert half["half-scale"] == ["x_q", "x_d", "w_q", "w_d"]
    assert half["opset-new"] == ["the model"]
    draft = convolution()
    for node in draft.nodes[:2]:
        del node.input[2:]
    assert rules(draft.model(17), "tensorrt-8.6")["zero-point-absent"] == ["x_q", "x_d"]
    assert rules(draft.model(17), "tensorrt-10.3") == {"zero-point-missing": ["x_q"]}
    assert "unsupported-operator" in rules(
        Draft()
        .input("n", [], TensorProto.INT64)
        .node("HannWindow", "n", "y")
        .output("y", [None])
        .model(17),
        "tensorrt-8.6",
    )


def test_operators_inside_conditions_and_functions_are_seen():
    inner = helper.make_graph(
        [helper.make_node("Det", ["x"], ["d"], name="inside")],
        "branch",
        [],
        [helper.make_tensor_value_info("d", TensorProto.FLOAT, [1, 16])],
    )
    draft = floats(("If", "k", "y", {"then_branch": inner, "else_branch": inner}))
    draft.input("k", [], TensorProto.BOOL).output("y", [1, 16])
    assert rules(draft.model())["unsupported-operator"] == ["inside", "inside"]
    draft = floats(("Odd", "x", "y", {"domain": "my.ops"}))
    body = [helper.make_node("Foo", ["a"], ["b"], domain="other.ops")]
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("other.ops", 1)]
    draft.functions = [helper.make_function("my.ops", "Odd", ["a"], ["b"], body, opsets)]
    found = rules(draft.model(my_ops=1, other_ops=1))
    assert found["custom-operator"] == ["Foo making b"]


def test_products_of_two_activations():
    draft = Draft().input("a", [4, 8]).input("b", [8, 4]).output("y", [4, 4])
    draft.const("s", np.float32(0.1)).const("z", np.int8(0))
    for name in "ab":
        draft.node("QuantizeLinear", f"{name} s z", f"{name}_q")
        draft.node("DequantizeLinear", f"{name}_q s z", f"{name}_d")
    draft.node("MatMul", "a_d b_d", "y")
    assert rules(draft.model()) == {}
    draft.drop("b_q", "b_d").rewire("y", 1, "b")
    assert rules(draft.model()) == {"activation-alone": ["y"]}


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> onnx.ModelProto:
    return prepared(residual_network(), tmp_path_factory.mktemp("network"))


def test_each_form_is_for_its_own_target(network: onnx.ModelProto):
    serving, _ = quantised(network, EVERYTHING, "cpu")
    compiled, plan = quantised(network, EVERYTHING, "tensorrt")
    assert not lint_model(serving, "cpu")
    for target in ("tensorrt-10.3", "tensorrt-10.16", "tensorrt-11", "rtx-1.7"):
        assert not broken(lint_model(compiled, target))
        # Parsers up to 10.3 refuse what later ones take for INT8.
        named = "zero-point-uint8-refused" if target == "tensorrt-10.3" else "zero-point-uint8"
        assert named in rules(serving, target)
    swapped = rules(compiled, "cpu")
    assert set(swapped["weight-saturates"]) == plan.quantised()
    assert "signed-activation" in swapped
    assert "half-on-cpu" in swapped


def test_the_build_refuses_a_form_that_breaks_a_rule(network, monkeypatch):
    refuse_broken_form(convolution().model(), "tensorrt")
    # Operators are the source model's own.
    own = floats(("Foo", "x", "y", {"domain": "my.ops"})).model(my_ops=1)
    refuse_broken_form(own, "tensorrt")
    plan = make_plan(network, EVERYTHING)
    ranges = dict.fromkeys(tensors_to_observe(network, plan, "tensorrt"), (-1.0, 1.0))
    assert quantize(network, plan, ranges, {}, "tensorrt").graph.node
    wrong = convolution(axis=1).const("x_zero", np.uint8(0)).model()
    honest = forms.EMITTERS["tensorrt"]
    emitter = SimpleNamespace(
        narrow=honest.narrow,
        tensors_to_observe=honest.tensors_to_observe,
        emit=lambda *_: wrong,
    )
    monkeypatch.setitem(forms.EMITTERS, "tensorrt", emitter)
    with pytest.raises(
        ModelError, match=r"x_q: makes UINT8 \[zero-point-uint8-refused\].*weight-axis"
    ):
        quantize(network, plan, ranges, {}, "tensorrt")


@pytest.mark.parametrize("emitter", ["tensorrt", "tensorrt_8", "tensorrt_fp8"])
def test_every_form_for_tensorrt_is_held_to_its_rules(emitter: str):
    with pytest.raises(ModelError, match=f"the {emitter} form breaks rules of .*weight-axis"):
        refuse_broken_form(convolution(axis=1).model(), emitter)


@settings(max_examples=25, deadline=None)
@given(network=networks(), data=st.data())
def test_every_emitted_graph_passes(tmp_path_factory, network, data):
    model = prepared(network, tmp_path_factory.mktemp("random"))
    plan = make_plan(model, EVERYTHING)
    names = sorted(plan.quantised())
    spared = data.draw(st.lists(st.sampled_from(names), unique=True))
    plan = plan.spared(dict.fromkeys(spared, "drawn"))
    calibrator = Calibrator(model, tensors_to_observe(model, plan, "tensorrt"))
    calibrator.observe(samples(model, 1)[0])
    ranges = {name: (o.min, o.max) for name, o in calibrator.observers.items()}
    tensors = [name for node in model.graph.node for name in node.output]
    loud = data.draw(st.lists(st.sampled_from(tensors), unique=True, max_size=3))
    emitted = quantize(model, plan, ranges, dict.fromkeys(loud, 1e4), "tensorrt")
    for target in ("tensorrt-10.3", "tensorrt-10.16", "tensorrt-11", "rtx-1.7"):
        assert not broken(lint_model(emitted, target)), target
    older = quantize(model, plan, ranges, dict.fromkeys(loud, 1e4), "tensorrt_8")
    assert not broken(lint_model(older, "tensorrt-8.6"))
    floats8 = quantize(model, plan, ranges, dict.fromkeys(loud, 1e4), "tensorrt_fp8")
    for target in ("tensorrt-10.3", "tensorrt-10.16", "tensorrt-11", "rtx-1.7"):
        assert not broken(lint_model(floats8, target)), target


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    onnx.save(convolution(group=CHANNELS).const("x_zero", np.uint8(0)).model(), file)
    return file


def test_the_command_names_rule_place_consequence_and_fix(path: Path, capsys):
    assert main(["lint", str(path), "--target", "rtx-1.7"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "trap zero-point-uint8: quantised to UINT8"
    assert lines[1].startswith("  consequence: built as INT8, silently")
    assert lines[2].startswith("  fix: quantise symmetrically")
    assert lines[3] == "  at x_q: makes UINT8"
    assert lines[4].startswith("advice depthwise-padded")
    assert lines[-1] == f"{path} for rtx-1.7: 0 errors, 1 trap, 1 advice"


def test_the_command_as_json(path: Path, capsys):
    assert main(["lint", str(path), "--target", "tensorrt-11", "--json"]) == 1
    (one,) = json.loads(capsys.readouterr().out)
    assert one["node"] == "x_q"
    assert one["rule"] == "zero-point-uint8"
    assert one["severity"] == "trap"
    assert one.keys() == {*("node", "rule", "severity", "title", "detail", "consequence", "fix")}


def test_advice_alone_is_no_failure(tmp_path: Path, capsys):
    file = tmp_path / "model.onnx"
    onnx.save(convolution(group=CHANNELS).model(), file)
    assert main(["lint", str(file), "--target", "rtx-1.7"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("0 errors, 0 traps, 1 advice")
    assert main(["lint", str(file), "--target", "tensorrt-11", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "there is no such model"), (b"no model", "is not an ONNX model")],
)
def test_files_that_are_no_models(tmp_path: Path, capsys, content, reason):
    file = tmp_path / "model.onnx"
    if content is not None:
        file.write_bytes(content)
    assert main(["lint", str(file), "--target", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_an_unknown_target_is_answered_with_the_known_ones(path: Path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["lint", str(path), "--target", "tensorrt-12"])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert all(name in error for name in TARGETS)
    with pytest.raises(UsageError, match=r"'tensorrt-12' is unknown; known: tensorrt-8\.6"):
        find_target("tensorrt-12")
