# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What lint says of TensorRT for RTX is what its real parser and builder do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_qdq import (
    CHANNELS,
    IMAGE,
    Draft,
    convolution,
    paired,
    residual,
)
from helpers_rtx_cases import CASES, Case, legal
from helpers_trt import Refused, rtx, try_compile
from onnx import TensorProto, helper

from av_compress.compress.lint.lint import broken, lint_model
from av_compress.compress.lint.rule import Severity
from av_compress.compress.lint.targets import TARGETS


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_lint_says_what_the_builder_does(case: Case):
    found = broken(lint_model(case.model, "rtx-1.7"))
    assert sorted(v.rule.id for v in found) == sorted(case.rules)
    outcome = try_compile(case.model.SerializeToString())
    errors = [v for v in found if v.rule.severity is Severity.ERROR]
    assert isinstance(outcome, Refused) == bool(errors), (outcome, errors)
    if not isinstance(outcome, Refused):
        assert outcome.reads_int8("conv") == case.int8


@pytest.mark.parametrize("computed", [False, True], ids=["input", "computed"])
def test_a_scale_that_is_no_constant_crashes_the_builder(tmp_path: Path, computed: bool):
    rtx()
    draft = convolution()
    del draft.constants["x_scale"]
    if computed:
        draft.before("x_q", "ReduceMax", "x", "x_scale", keepdims=0)
    else:
        draft.input("x_scale", [])
    model = draft.model()
    assert {v.rule.id for v in broken(lint_model(model, "rtx-1.7"))} == {"scale-dynamic"}
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    code = f"from helpers_trt import *; print(try_compile(open({str(path)!r}, 'rb').read()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, check=False
    )
    assert done.returncode != 0 or b"Refused" in done.stdout


def test_the_operators_that_rtx_does_not_read_are_those_of_its_parser():
    trt = rtx()
    logger = trt.Logger(trt.Logger.ERROR)
    parser = trt.OnnxParser(trt.Builder(logger).create_network(), logger)
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    # The installed ONNX may know fewer operators than the parser's list was made with.
    unread = {name for name in names if not parser.supports_operator(name)}
    assert unread == TARGETS["rtx-1.7"].unsupported & names


@pytest.mark.parametrize("case", [*legal()], ids=lambda case: case.name)
def test_what_is_right_for_rtx_is_right_for_tensorrt_of_its_opset(case: Case):
    opset = case.model.opset_import[0].version
    for target in ("tensorrt-10.3", "tensorrt-10.16", "tensorrt-11"):
        if opset <= TARGETS[target].opset_max:
            assert not broken(lint_model(case.model, target)), target


def test_what_lint_only_advises_against_is_built():
    pool = paired("AveragePool", "y_d", kernel_shape=[1, 1]).node("Relu", "z", "r")
    concat = paired("Concat", "y_d x_d", axis=1).const("other", np.float32(0.25))
    concat.rewire("y_q", 1, "other").rewire("y_d", 1, "other")
    concat.node("QuantizeLinear", "z x_scale x_zero", "z_q")
    concat.node("DequantizeLinear", "z_q x_scale x_zero", "r")
    dangling = convolution().node("QuantizeLinear", "y x_scale x_zero", "y_q")
    subnormal = convolution(np.float16).const("x_scale", np.float16(3e-5))
    double = Draft().input("x", [4], TensorProto.DOUBLE).node("Neg", "x", "y")
    drafts = {
        "residual-skip": residual(),
        "residual-branch": residual("branch", "skip"),
        "pair-before-activation": paired("Relu", "y_d"),
        "one-sided": pool.output("r", IMAGE),
        "concat-scales": concat.output("r", [1, 32, 8, 8]),
        "integers-unread": dangling,
        "half-scale-subnormal": subnormal,
        "double": double.output("y", [4], TensorProto.DOUBLE),
    }
    for rule, draft in drafts.items():
        model = draft.model()
        found = {v.rule.id: v.rule.severity for v in lint_model(model, "rtx-1.7")}
        assert found[rule] is Severity.ADVICE
        assert set(found.values()) == {Severity.ADVICE}
        outcome = try_compile(model.SerializeToString())
        assert not isinstance(outcome, Refused), (rule, outcome)
        assert outcome.reads_int8("conv") == (rule != "double")


def fp8() -> onnx.ModelProto:
    draft = convolution()
    for name, shape in (("x_zero", []), ("w_zero", [CHANNELS])):
        zeros = [0.0] * (CHANNELS if shape else 1)
        tensor = helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, shape, zeros)
        draft.const(name, tensor)
    return draft.model()


def test_fp8_is_read_where_lint_says_so():
    model = fp8()
    assert {v.rule.id for v in lint_model(model, "rtx-1.7")} == {"fp8-hardware"}
    outcome = try_compile(model.SerializeToString())
    assert not isinstance(outcome, Refused)
    assert outcome.reads("conv", "FP8")
    assert {"quantised-type"} < {v.rule.id for v in broken(lint_model(model, "tensorrt-8.6"))}


@pytest.mark.shared_data
def test_real_models_are_built_as_lint_says(shared_data: Path):
    paths = sorted(shared_data.glob("*/*.onnx"))
    assert len(paths) == 11
    for path in paths:
        assert not broken(lint_model(onnx.load(path), "rtx-1.7")), path
        # The detectors' quantised forms are built in another test.
        if path.parent.name != "camera":
            assert not isinstance(try_compile(path.read_bytes()), Refused), path
