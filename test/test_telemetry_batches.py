# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How full batches are: totals, and the recent past by size."""

import pytest

from av_compress.telemetry.batches import BatchMonitor
from av_compress.telemetry.monitor import Level

SECOND = 10**9


def test_batches_are_counted_by_size():
    monitor = BatchMonitor(3)
    assert monitor.report().message == "no batch yet"
    for size in (3, 3, 1, 0, 2):
        monitor.served(size)
    report = monitor.report()
    assert report.level == Level.OK
    assert report.message == "1.8 of 3 frames in a batch"
    assert report.figures == pytest.approx(
        {
            "batches": 5,
            "frames": 9,
            "batch_size_mean": 1.8,
            "batch_fill": 0.6,
            "batches_of_0": 1,
            "batches_of_1": 1,
            "batches_of_2": 1,
            "batches_of_3": 2,
        }
    )


def test_the_past_is_forgotten_and_totals_stay():
    now = [0]
    monitor = BatchMonitor(2, horizon_s=10.0, steady_clock=lambda: now[0])
    monitor.served(1)
    now[0] = 100 * SECOND
    monitor.served(2)
    figures = monitor.report().figures
    assert (figures["batches"], figures["batches_of_1"], figures["batches_of_2"]) == (2, 0, 1)
    monitor.forget()
    figures = monitor.report().figures
    assert (figures["batches"], figures["frames"], figures["batch_fill"]) == (2, 3, 0)
