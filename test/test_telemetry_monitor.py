# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a node's health report says, and when its level rises and falls."""

import threading

import pytest
from helpers_telemetry import Clock

from av_compress.telemetry.clocks import ClockWatch
from av_compress.telemetry.monitor import Counts, Level, Limits, Monitor
from av_compress.telemetry.windows import NS_PER_MS, NS_PER_S


class World:
    """A monitor, and a node clock that runs with steady time until it is set."""

    def __init__(self, horizon_s: float = 10.0, **limits: float) -> None:
        self.steady = Clock()
        self.offset_ns = 5_000 * NS_PER_S
        self.monitor = Monitor(Limits(**limits), horizon_s, self.steady)

    @property
    def now_ns(self) -> int:
        return self.steady.now_ns + self.offset_ns

    def frame(self, execute_ms: float = 5.0, age_ms: float = 10.0) -> None:
        self.monitor.received(self.now_ns)
        self.monitor.processed(
            {"input_age": int(age_ms * NS_PER_MS), "execute": int(execute_ms * NS_PER_MS)}
        )

    def level(self) -> Level:
        return self.monitor.report(self.now_ns).level

    def message(self) -> str:
        return self.monitor.report(self.now_ns).message


def test_figures_of_frames():
    world = World()
    world.monitor.received(world.now_ns)
    world.monitor.processed(
        {
            "input_age": 20 * NS_PER_MS,
            "decode": 1 * NS_PER_MS,
            "preprocess": 2 * NS_PER_MS,
            "execute": 3 * NS_PER_MS,
            "publish": 4 * NS_PER_MS,
        }
    )
    report = world.monitor.report(world.now_ns)
    assert (report.level, report.message) == (Level.OK, "OK")
    assert report.figures["input_age_ms"] == 20
    assert report.figures["processing_time_ms"] == 10
    assert report.figures["pipeline_latency_ms"] == 30
    for key in ("p50", "p95", "p99", "max"):
        assert report.figures[f"processing_time_{key}_ms"] == pytest.approx(10, rel=1e-3)
        assert report.figures[f"pipeline_latency_{key}_ms"] == pytest.approx(30, rel=1e-3)
        assert report.figures[f"execute_{key}_ms"] == pytest.approx(3, rel=1e-3)
    assert report.figures["received"] == report.figures["processed"] == 1
    assert report.figures["dropped"] == report.figures["deadline_misses"] == 0
    assert world.monitor.summary("preprocess").count == 1


def test_results_that_are_made_of_less_are_told_for_a_while():
    world = World(horizon_s=2.0)
    world.frame()
    world.frame()
    world.monitor.degraded("1 of 3 sweeps")
    assert world.level() == Level.WARN
    text = "1 of 2 results were made of less than could be, the last: 1 of 3 sweeps"
    assert world.message() == text
    world.steady.advance(10)
    world.frame()
    assert world.level() == Level.OK
    assert world.monitor.report(world.now_ns).figures["degraded"] == 1


def test_totals_outlive_the_windows():
    world = World(horizon_s=2.0, deadline_ms=50)
    world.frame(execute_ms=100)
    world.monitor.dropped()
    world.monitor.failed("truncated")
    world.steady.advance(60)
    assert world.monitor.totals() == Counts(1, 1, 1, 1, 1)
    report = world.monitor.report(world.now_ns)
    assert report.figures["deadline_misses"] == 1
    assert report.figures["processing_time_max_ms"] == 0
    assert report.message == "OK"


def test_slow_processing_warns_then_errs_then_recovers():
    world = World(max_allowed_processing_time_ms=20, max_acceptable_consecutive_delay_ms=1000)
    world.frame(execute_ms=20)
    assert world.level() == Level.OK
    world.frame(execute_ms=21)
    assert world.level() == Level.WARN
    assert "processing took 21.0 ms, allowed 20" in world.message()
    world.steady.advance(0.9)
    world.frame(execute_ms=30)
    assert world.level() == Level.WARN
    world.steady.advance(0.2)
    world.frame(execute_ms=30)
    assert world.level() == Level.ERROR
    assert "for 1.1 s" in world.message()
    world.frame(execute_ms=10)
    assert world.level() == Level.OK


def test_deadline_counts_the_input_s_age():
    world = World(deadline_ms=50, warn_miss_ratio=0.2, error_miss_ratio=0.5)
    for _ in range(9):
        world.frame(execute_ms=20, age_ms=30)
    world.frame(execute_ms=20, age_ms=31)
    assert world.monitor.totals().deadline_misses == 1
    assert world.level() == Level.OK
    world.frame(execute_ms=20, age_ms=40)
    world.frame(execute_ms=60, age_ms=0)
    assert world.level() == Level.WARN
    assert "3 of 12 results came after the deadline of 50 ms" in world.message()
    for _ in range(6):
        world.frame(execute_ms=60)
    assert world.level() == Level.ERROR
    world.steady.advance(10)
    world.frame()
    assert world.level() == Level.OK


def test_drops_by_share_of_recent_frames():
    world = World(warn_drop_ratio=0.1, error_drop_ratio=0.5)
    for _ in range(20):
        world.frame()
    world.monitor.dropped()
    assert world.level() == Level.OK
    world.monitor.dropped()
    assert world.level() == Level.WARN
    assert "2 of 20 frames were dropped" in world.message()
    for _ in range(8):
        world.monitor.dropped()
    assert world.level() == Level.ERROR


def test_silence_is_an_error_from_the_start_and_later():
    world = World(input_timeout_ms=500)
    assert world.level() == Level.OK
    world.steady.advance(0.6)
    assert world.level() == Level.ERROR
    assert "no input for 0.6 s" in world.message()
    world.frame()
    assert world.level() == Level.OK
    world.steady.advance(1)
    assert world.level() == Level.ERROR


def test_a_new_beginning_forgets_all_but_the_totals():
    world = World(input_timeout_ms=500, max_allowed_processing_time_ms=1, warn_drop_ratio=0.1)
    world.frame(age_ms=1e9)
    world.monitor.dropped()
    world.steady.advance(60)
    world.monitor.forget()
    report = world.monitor.report(world.now_ns)
    assert (report.level, report.message) == (Level.OK, "OK")
    assert report.figures["processing_time_ms"] == report.figures["execute_max_ms"] == 0
    assert report.figures["processed"] == report.figures["dropped"] == 1
    assert report.figures["clock_jumps"] == 0


def test_a_bad_frame_warns_with_its_reason():
    world = World()
    world.monitor.received(world.now_ns)
    world.monitor.failed("data ends after 10 of 300 bytes")
    assert world.level() == Level.WARN
    assert "1 bad frames, the last: data ends after 10 of 300 bytes" in world.message()


def test_limits_of_zero_are_off():
    world = World()
    for _ in range(3):
        world.frame(execute_ms=10_000)
        world.monitor.dropped()
    world.steady.advance(8)
    assert world.level() == Level.OK


def test_the_worst_condition_gives_the_level_and_all_are_told():
    world = World(max_allowed_processing_time_ms=1, error_drop_ratio=0.5)
    world.frame()
    world.monitor.dropped()
    report = world.monitor.report(world.now_ns)
    assert report.level == Level.ERROR
    assert "processing took" in report.message
    assert "dropped" in report.message


@pytest.mark.parametrize("age_s", [86_400, -86_400])
def test_stamps_of_a_foreign_clock_are_told(age_s: int):
    world = World()
    world.frame(age_ms=age_s * 1000)
    assert world.level() == Level.WARN
    assert "use_sim_time" in world.message()


@pytest.mark.parametrize("jump_s", [-0.001, -3600, 11])
@pytest.mark.parametrize("noticed_by", ["frame", "report"])
def test_a_clock_jump_clears_the_windows_and_keeps_the_totals(jump_s: float, noticed_by: str):
    world = World(max_allowed_processing_time_ms=1, warn_drop_ratio=0.1, max_clock_jump_s=10)
    world.frame(execute_ms=100)
    world.monitor.dropped()
    assert world.level() == Level.WARN
    world.offset_ns += int(jump_s * NS_PER_S)
    if noticed_by == "frame":
        world.frame(execute_ms=0.5)
    report = world.monitor.report(world.now_ns)
    assert report.figures["clock_jumps"] == 1
    assert report.level == Level.OK
    assert report.figures["processing_time_max_ms"] == pytest.approx(
        0.5 if noticed_by == "frame" else 0.0
    )
    assert report.figures["dropped"] == 1


def test_a_pause_is_no_jump():
    world = World(max_clock_jump_s=10)
    world.frame()
    world.steady.advance(300)
    world.frame()
    assert world.monitor.report(world.now_ns).figures["clock_jumps"] == 0


def test_a_simulation_may_run_faster_stop_and_go_on():
    steady = Clock()
    watch = ClockWatch(10.0, steady)
    now_ns = 0
    for _ in range(100):
        steady.advance(0.1)
        now_ns += NS_PER_S  # Ten times real time.
        assert not watch.jumped(now_ns)
    steady.advance(60)
    assert not watch.jumped(now_ns)
    assert watch.jumped(now_ns + 71 * NS_PER_S)


def test_threads_lose_no_frame():
    world = World()

    def serve() -> None:
        for _ in range(500):
            world.frame()

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        world.level()
    for thread in threads:
        thread.join()
    assert world.monitor.totals().processed == 2000
    assert world.monitor.summary("execute").count == 2000


def test_frames_are_kept_when_nobody_asks_for_reports():
    world = World(horizon_s=1e6)
    for _ in range(3000):
        world.frame()
    assert world.monitor.summary("processing_time").count == 3000
