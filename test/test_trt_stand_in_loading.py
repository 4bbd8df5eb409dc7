# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The stand-in's plans load only where a real plan would."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from test_trt_stand_in_building import TYPED, Bench, Log
from test_trt_stand_in_running import MODEL, plan_of
from trt_stand_in import VERSIONS, Card, make_module


def changed(data: bytes) -> bytes:
    return data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "spoil", [lambda d: b"", lambda d: d[:100], lambda d: d[:-1], changed, lambda d: b"x" + d]
)
def test_a_plan_that_is_cut_short_or_changed_is_refused(
    version: str, spoil: Callable[[bytes], bytes]
):
    module, _ = make_module(version)
    log = Log.of(module)
    assert module.Runtime(log).deserialize_cuda_engine(spoil(plan_of(module))) is None
    assert "Serialization assertion failed" in log.errors()


def test_a_plan_loads_in_its_own_version_alone():
    plans = {version: plan_of(make_module(version)[0]) for version in VERSIONS}
    for reader in VERSIONS:
        module, _ = make_module(reader)
        for writer, plan in plans.items():
            engine = module.Runtime(Log.of(module)).deserialize_cuda_engine(plan)
            assert (engine is not None) == (reader == writer), (reader, writer)


def test_a_version_compatible_plan_loads_in_later_versions_that_allow_its_code():
    bench = Bench("10.3", MODEL).flag("VERSION_COMPATIBLE")
    plan = bench.build()
    for reader, allowed, loads in (
        ("10.16", True, True),
        ("10.16", False, False),
        ("10.0", True, False),
        ("11.0", True, False),
    ):
        module, _ = make_module(reader)
        runtime = module.Runtime(Log.of(module))
        runtime.engine_host_code_allowed = allowed
        assert (runtime.deserialize_cuda_engine(plan) is not None) == loads, (reader, allowed)


def test_a_plan_loads_on_its_own_capability_alone():
    for version in TYPED:
        module, control = make_module(version)
        plan, log = plan_of(module), Log.of(module)
        runtime = module.Runtime(log)
        control.card = Card("Stand-in B", (8, 9))
        assert runtime.deserialize_cuda_engine(plan) is not None
        warned = any("different models" in text for _, text in log.messages)
        assert warned == (version != "rtx-1.7")
        control.card = Card("Stand-in C", (8, 6))
        assert runtime.deserialize_cuda_engine(plan) is None
        assert "8.6" in log.errors()
        control.card = None
        assert runtime.deserialize_cuda_engine(plan) is None


def test_ampere_plus_loads_on_other_cards():
    bench = Bench("10.3", MODEL)
    bench.config.hardware_compatibility_level = bench.module.HardwareCompatibilityLevel.AMPERE_PLUS
    plan = bench.build()
    module, control = make_module("10.3")
    runtime = module.Runtime(Log.of(module))
    for capability, loads in (((8, 6), True), ((12, 0), True), ((7, 5), False)):
        control.card = Card("other", capability)
        assert (runtime.deserialize_cuda_engine(plan) is not None) == loads


def test_rtx_tells_why_a_plan_is_not_valid():
    module, control = make_module("rtx-1.7")
    runtime, plan = module.Runtime(Log.of(module)), plan_of(module)
    reasons = module.EngineInvalidityDiagnostics
    assert runtime.get_engine_validity(plan) == (module.EngineValidity.VALID, 0)
    control.card = Card("other", (12, 0))
    assert runtime.get_engine_validity(plan)[1] == int(reasons.UNSUPPORTED_CC)
    assert runtime.get_engine_validity(b"junk")[1] == int(reasons.MALFORMED_ENGINE)
