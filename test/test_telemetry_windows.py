# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Percentile windows against numpy, and what they forget."""

import gc

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from helpers_telemetry import Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.telemetry.spans import SPAN_NAMES, SpanRecorder
from av_compress.telemetry.windows import NS_PER_MS, NS_PER_S, LatencySummary, LatencyWindow

HOUR_NS = 3600 * NS_PER_S


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, HOUR_NS), min_size=1, max_size=300))
def test_figures_equal_numpy_s(values: list[int]):
    window = LatencyWindow(horizon_s=None)
    for value in values:
        window.record(value)
    summary = window.summary()
    milliseconds = np.asarray(values) / NS_PER_MS
    assert summary.count == len(values)
    # Three significant digits, and half a microsecond at the lower end.
    tolerance = {"rtol": 1e-3, "atol": 6e-4}
    np.testing.assert_allclose(
        [summary.p50_ms, summary.p95_ms, summary.p99_ms],
        np.percentile(milliseconds, [50, 95, 99], method="inverted_cdf"),
        **tolerance,
    )
    np.testing.assert_allclose(summary.mean_ms, milliseconds.mean(), rtol=1e-12)
    assert summary.max_ms == milliseconds.max()
    assert summary.p50_ms <= summary.p95_ms <= summary.p99_ms <= summary.max_ms


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.integers(0, NS_PER_S), max_size=50), max_size=4))
def test_all_at_once_is_one_by_one(batches: list[list[int]]):
    one, many = LatencyWindow(None), LatencyWindow(None)
    for batch in batches:
        many.record_all(batch)
        for value in batch:
            one.record(value)
    assert one.summary() == many.summary()


def test_an_empty_window_is_all_zero():
    assert LatencyWindow().summary() == LatencySummary(0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_values_out_of_range_stand_at_its_ends():
    window = LatencyWindow(None)
    window.record(-5)
    assert window.summary() == LatencySummary(1, 0.0, 0.0, 0.0, 0.0, 0.0)
    window.record(1_700_000_000 * NS_PER_S)
    assert window.summary().max_ms == 3_600_000
    assert window.summary().p99_ms == pytest.approx(3_600_000, rel=1e-3)


def test_the_window_reaches_back_between_half_and_all_of_its_horizon():
    clock = Clock()
    window = LatencyWindow(10.0, clock)
    window.record(1 * NS_PER_MS)
    clock.advance(4.9)
    window.record(2 * NS_PER_MS)
    assert window.summary().count == 2
    clock.advance(0.2)  # 5.1 s: the first generation is the older one now.
    window.record(3 * NS_PER_MS)
    assert window.summary().count == 3
    clock.advance(5.0)  # 10.1 s: it is gone.
    assert window.summary().count == 1
    assert window.summary().max_ms == 3.0
    clock.advance(100.0)
    assert window.summary().count == 0


def test_time_that_passes_takes_no_memory():
    def histograms() -> int:
        return sum(isinstance(item, HdrHistogram) for item in gc.get_objects())

    clock = Clock()
    window = LatencyWindow(1.0, clock)
    before = histograms()
    gc.disable()  # The library's histograms are reference cycles: none may be left behind.
    try:
        for _ in range(20):
            clock.advance(0.6)
            window.record(1)
            assert window.summary().count <= 2
    finally:
        gc.enable()
    assert histograms() == before


def test_a_window_without_horizon_keeps_all():
    clock = Clock()
    window = LatencyWindow(None, clock)
    window.record(1)
    clock.advance(1e6)
    assert window.summary().count == 1


def test_clear_forgets_both_generations():
    clock = Clock()
    window = LatencyWindow(10.0, clock)
    window.record(1)
    clock.advance(6.0)
    window.record(1)
    window.clear()
    assert window.summary().count == 0
    clock.advance(4.0)
    window.record(1)
    assert window.summary().count == 1


def test_spans_add_up_under_their_names():
    recorder = SpanRecorder()
    recorder.add("execute", 5)
    recorder.add("execute", 7)
    with recorder.span("decode"):
        sum(range(1000))
    spans = recorder.spans()
    assert spans["execute"] == 12
    assert spans["decode"] > 0
    assert set(spans) == {"execute", "decode"}
    spans.clear()
    assert recorder.spans()["execute"] == 12


def test_a_span_is_recorded_when_its_body_fails():
    recorder = SpanRecorder()
    with pytest.raises(ZeroDivisionError), recorder.span("decode"):
        _ = 1 / 0
    assert "decode" in recorder.spans()


def test_an_unknown_span_is_refused():
    recorder = SpanRecorder()
    with pytest.raises(KeyError, match="no span is called 'cook'"):
        recorder.add("cook", 1)
    assert SPAN_NAMES[0] == "input_age"
    assert SPAN_NAMES[-1] == "publish"
