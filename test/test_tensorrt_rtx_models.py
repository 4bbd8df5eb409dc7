# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Every model at hand, in every precision, is compiled by a real TensorRT, and as it was asked to.

For the demo's detector one plan for each capability; for the real models one for all of them.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

import onnx
import pytest
from helpers_trt import rtx

from av_compress.build.plan_parts import account_of
from av_compress.compress.optimize.prepare import prepare_model
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.compile import compile_plan

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from compile import CAPABILITIES, forms_of

MODELS = (
    "camera/fastestdet_352",
    "camera/light_person_detector",
    "camera/nanodet_m_320",
    "control/pilotnet",
    "lidar/tiny_e2e",
    "lidar/tiny_pfe",
    "lidar/tiny_rpn",
    "recognition/mnist",
    "recognition/road_segmentation_adas_0001",
    "recognition/vww_96_float",
    "voice/kws_ref_model_float32",
)
# What the benchmark adds to see the price of, no precision of its own.
BESIDE = {"INT8, default rules", "INT8, migrated"}


def check(path: Path, targets: list[tuple[str, ...]]) -> None:
    for form, model in forms_of(prepare_model(path).model):
        if form in BESIDE:
            continue
        for target in targets:
            # FP8 came with 8.9.
            capabilities = tuple(one for one in target if form != "FP8" or one != "8.6")
            if not capabilities:
                continue
            plan = compile_plan(rtx(), model.SerializeToString(), CompileOptions(capabilities))
            account = account_of(model, plan)
            differing = [node.node for node in account.differing]
            assert account.kernels, f"{form} for {capabilities}: nothing is known of the plan"
            assert not differing, f"{form} for {capabilities}: {differing} became float"


def test_the_demo_detector_compiles(tmp_path: Path):
    path = tmp_path / "detector.onnx"
    path.write_bytes((resources.files("av_compress.data.demo") / "detector.onnx").read_bytes())
    check(path, [(one,) for one in CAPABILITIES])


@pytest.mark.shared_data
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_compiles(shared_data: Path, name: str):
    path = shared_data / f"{name}.onnx"
    assert onnx.load(path).graph.node
    check(path, [CAPABILITIES])


@pytest.mark.shared_data
def test_no_model_is_left_out(shared_data: Path):
    found = {str(path.relative_to(shared_data))[:-5] for path in shared_data.rglob("*.onnx")}
    assert found == set(MODELS)
