# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a serving node's worker owns: the pipeline, and the way of a message through it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import rclpy
from rclpy.clock import Clock
from rclpy.clock_type import ClockType

from av_compress.engines.pipeline import Pipeline
from av_compress.errors import AvCompressError
from av_compress.telemetry.monitor import Monitor
from av_compress.telemetry.spans import SpanRecorder

_WARM_UP_FRAMES = 3


class Outputs(Protocol):
    """Where a kind of node puts its results."""

    def announce(self, stamp: Any) -> None:
        """Publish what stays valid while the node is active, stamped with the node's time."""

    def publish(self, frame: Any, result: Any) -> None:
        """Publish the result of a frame."""

    def publish_debug(self, frame: Any, result: Any) -> None:
        """Publish what is there for a person to see, for topics that have a subscriber."""


class Reader(Protocol):
    """How a kind of node reads its inputs."""

    def read(self, message: Any) -> Any:
        """Return the frame in a message; FrameError where there is none."""

    def sample_message(self) -> Any:
        """Return a message such as the node receives, to warm up with."""


class Times(Protocol):
    """Where the times of single frames go."""

    def publish(self, spans: Mapping[str, int]) -> None:
        """Publish the spans of a frame."""


class ServingSession:
    """Serves messages one by one. Opened, used and closed by the worker's thread."""

    def __init__(
        self,
        *,
        reader: Reader,
        pipeline: Pipeline,
        outputs: Outputs,
        times: Times,
        monitor: Monitor,
        clock: Any,
        logger: Any,
    ) -> None:
        """Join the parts; `clock` and `logger` are the node's."""
        self._reader = reader
        self._pipeline = pipeline
        self._outputs = outputs
        self._times = times
        self._monitor = monitor
        self._clock = clock
        self._logger = logger
        # Reports of bad messages are held back by real time, which simulated time may not follow.
        self._throttle: dict[str, Any] = {
            "throttle_duration_sec": 1.0,
            "throttle_time_source_type": Clock(clock_type=ClockType.STEADY_TIME),
        }

    def warm_up(self) -> None:
        """Send a sample the whole way: first runs load libraries and code, and take far longer.

        Nothing of it is seen outside, since lifecycle publishers are silent until activation.

        Raises:
            AvCompressError: the model does not run.

        """
        message = self._reader.sample_message()
        for _ in range(_WARM_UP_FRAMES):
            self._serve(message)

    def serve(self, item: Any) -> None:
        """Serve one message; whatever goes wrong is counted and reported, never raised."""
        try:
            spans, frame, result = self._serve(item)
        except AvCompressError as error:
            self._monitor.failed(str(error))
            self._logger.error(f"message skipped: {error}", **self._throttle)
            return
        except Exception as error:
            if not rclpy.ok():
                return  # The process ends; publishers are gone.
            self._monitor.failed(f"{type(error).__name__}: {error}")
            self._logger.error(f"message skipped, unexpectedly: {error!r}", **self._throttle)
            return
        self._monitor.processed(spans)
        self._show(spans, frame, result)

    def close(self) -> None:
        """Free the engine."""
        self._pipeline.close()

    def _serve(self, message: Any) -> tuple[dict[str, int], Any, Any]:
        recorder = SpanRecorder()
        now_ns = self._clock.now().nanoseconds
        with recorder.span("decode"):
            frame = self._reader.read(message)
        recorder.add("input_age", now_ns - frame.stamp_ns)
        processed = self._pipeline.process(frame)
        with recorder.span("publish"):
            self._outputs.publish(frame, processed.result)
        return {**recorder.spans(), **processed.spans}, frame, processed.result

    def _show(self, spans: Mapping[str, int], frame: Any, result: Any) -> None:
        try:
            self._times.publish(spans)
            self._outputs.publish_debug(frame, result)
        except Exception as error:
            if rclpy.ok():
                self._logger.error(f"debug output failed: {error!r}", **self._throttle)
