# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""FP16 on real models: nothing overflows, little changes, no cast is needless, all compile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_casts import casts
from helpers_fp16 import FLOAT
from helpers_models import run, sqnr_db
from helpers_real import MODELS, real_inputs, real_magnitudes, real_model, static_batch
from helpers_trt import compile_plan
from test_compress_fp16 import checked

from av_compress.compress.emit.fp16 import fp32_reasons, to_fp16
from av_compress.compress.emit.simulate import simulate_half
from av_compress.compress.observe.calibrate import MagnitudeProbe

# Each rounding to FP16 is off by 2^-11 at most, which is noise 71 dB below the signal. A
# hundred in a row add 20 dB, differences of large numbers the rest.
TOLERANCE_DB = 35


@pytest.mark.shared_data
@pytest.mark.parametrize("name", MODELS)
def test_real_models_neither_overflow_nor_change(shared_data: Path, name: str):
    model, magnitudes = real_model(shared_data, name), real_magnitudes(shared_data, name)
    half = checked(model, magnitudes)
    if not fp32_reasons(model, magnitudes):
        border = (*model.graph.input, *model.graph.output)
        assert len(casts(half)) == sum(v.type.tensor_type.elem_type == FLOAT for v in border)
    simulated = simulate_half(half)
    # Every tensor, not the outputs alone: what overflows may be clipped behind.
    probe = MagnitudeProbe(simulated, threads=1)
    feeds = real_inputs(shared_data, name)[0]
    probe.observe(feeds)
    assert max(probe.magnitudes.values()) < np.finfo(np.float16).max
    for want, got in zip(run(model, feeds), run(simulated, feeds)):
        assert sqnr_db(want, got) > TOLERANCE_DB


@pytest.mark.shared_data
@pytest.mark.parametrize("name", MODELS)
def test_real_models_compile(shared_data: Path, name: str):
    model, magnitudes = real_model(shared_data, name), real_magnitudes(shared_data, name)
    # As if every third tensor were too large: some nodes stay FP32, others between them may.
    half = checked(model, dict.fromkeys(sorted(magnitudes)[::3], 1e4))
    feeds = real_inputs(shared_data, name)[0]
    for cast in (half, to_fp16(model, magnitudes)):
        compile_plan(static_batch(cast, feeds).SerializeToString())
    for want, got in zip(run(model, feeds), run(simulate_half(half), feeds)):
        assert sqnr_db(want, got) > TOLERANCE_DB
