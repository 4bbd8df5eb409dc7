# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What is emitted for TensorRT compiles in a real TensorRT, and runs there in INT8."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_models import EVERYTHING, prepared, quantised, residual_network, samples
from helpers_trt import compile_plan

from av_compress.compress.observe.channels import ChannelProbe
from av_compress.compress.optimize.prepare import prepare_model
from av_compress.compress.plan.precision import PrecisionRules, make_plan
from av_compress.compress.refine.migration import migrate

DETECTORS = ("nanodet_m_320", "light_person_detector", "fastestdet_352")


def check(model, rules: PrecisionRules) -> None:
    emitted, plan = quantised(model, rules, "tensorrt")
    compiled = compile_plan(emitted.SerializeToString())
    missed = [name for name in plan.quantised() if not compiled.reads_int8(name)]
    assert not missed, f"planned INT8, compiled to float: {missed}"
    assert plan.quantised()


@pytest.mark.parametrize("rules", [PrecisionRules(), EVERYTHING], ids=["default", "everything"])
def test_a_small_network_compiles_to_int8(tmp_path: Path, rules: PrecisionRules):
    check(prepared(residual_network(), tmp_path), rules)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", DETECTORS)
def test_real_detectors_compile_to_int8(shared_data: Path, name: str):
    check(prepare_model(shared_data / "camera" / f"{name}.onnx").model, PrecisionRules())


@pytest.mark.shared_data
@pytest.mark.parametrize("name", DETECTORS)
def test_real_detectors_compile_to_int8_whole_with_migrated_scales(shared_data: Path, name: str):
    model = prepare_model(shared_data / "camera" / f"{name}.onnx").model
    probe = ChannelProbe(model, make_plan(model, EVERYTHING), threads=1)
    for feeds in samples(model, 2):
        probe.observe(feeds)
    migrated, made = migrate(model, probe.factors())
    assert made
    check(migrated, EVERYTHING)
