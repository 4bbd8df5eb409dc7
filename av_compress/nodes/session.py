# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a serving node's worker owns: the pipeline, and the way of a message through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import rclpy

from av_compress.engines.cuda import CudaError
from av_compress.engines.pipeline import Pipeline
from av_compress.errors import AvCompressError, FrameError
from av_compress.nodes.motion import Listener
from av_compress.nodes.roles import Gathered, Gathering
from av_compress.nodes.throttle import QUIET_S, Throttle
from av_compress.telemetry.batches import BatchMonitor
from av_compress.telemetry.monitor import Monitor
from av_compress.telemetry.spans import SpanRecorder

_WARM_UP_FRAMES = 3


class Outputs(Protocol):
    """Where a kind of node puts its results."""

    def announce(self, stamp: Any) -> None:
        """Publish what stays valid while the node is active, stamped with the node's time."""

    def publish(self, frame: Any, result: Any) -> None:
        """Publish the result of a frame."""

    def publish_debug(self, frame: Any, result: Any, context: Any) -> None:
        """Publish what is there for a person to see, for topics that have a subscriber.

        Args:
            frame: as it was read.
            result: of it.
            context: the task's, see `Prepared`.

        """

    def shortfalls(self, context: Any) -> Mapping[str, str]:
        """Return what about -> why the model was told less of a frame than it should."""


class Reader(Protocol):
    """How a configured node reads its inputs; the worker's thread's while that is at work."""

    def read(self, message: Any) -> Any:
        """Return the frame in a message; FrameError where there is none."""

    def read_raw(self, message: Any) -> Any:
        """Return it as the message holds it where that can be, without decoding it."""

    def gather(self, frames: Mapping[str, Any]) -> Gathering:
        """Make what is served of frames that were read together: slot -> frame."""

    def forget(self) -> None:
        """Forget what was read and heard: what comes next has nothing to do with it."""

    def sample_message(self) -> Any:
        """Return a message such as the node receives, to warm up with."""

    def listeners(self) -> Sequence[Listener]:
        """Return what else it hears, in the node's own thread."""


class Times(Protocol):
    """Where the times of single frames go."""

    def publish(self, spans: Mapping[str, int]) -> None:
        """Publish the spans of a frame."""


@dataclass(frozen=True)
class Channel:
    """One input's way out.

    Attributes:
        outputs: where its results go; those whose frames are served as one share it.
        times: where the times of its frames go, likewise.
        monitor: what happens to its frames.

    """

    outputs: Outputs
    times: Times
    monitor: Monitor


@dataclass(frozen=True)
class _Served:
    """A frame's result; `ages` is slot -> how old the message was when work on it began."""

    gathered: Gathered
    result: Any
    context: Any
    spans: Mapping[str, int]
    ages: Mapping[str, int]

    @property
    def first(self) -> str:
        """The slot whose outputs are those of all."""
        return self.gathered.slots[0]

    def spans_of(self, slot: str) -> dict[str, int]:
        return {"input_age": self.ages[slot], **self.spans}


class ServingSession:
    """Serves what waits in the worker's slots, all of it in one batch.

    Opened, used and closed by the worker's thread.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        pipeline: Pipeline,
        channels: Mapping[str, Channel],
        batches: BatchMonitor,
        clock: Any,
        logger: Any,
        give_up: Callable[[str], None],
    ) -> None:
        """Join the parts.

        Args:
            reader: understands the messages.
            pipeline: serves the frames.
            channels: slot -> where its results go.
            batches: what happens to batches.
            clock: of the node.
            logger: of the node.
            give_up: is told where the device is lost, after which no frame can be served.

        """
        self._reader = reader
        self._pipeline = pipeline
        self._channels = channels
        self._batches = batches
        self._clock = clock
        self._logger = logger
        self._give_up = give_up
        self._throttle = Throttle(QUIET_S)

    @property
    def description(self) -> str:
        """What runs where, in a few words."""
        return self._pipeline.description

    def warm_up(self) -> None:
        """Send samples the whole way: first runs load libraries and code, and take far longer.

        Every size of a batch is run, since some engines prepare for each. Nothing of it is seen
        outside, since lifecycle publishers are silent until activation.

        Raises:
            AvCompressError: the model does not run.

        """
        samples = dict.fromkeys(self._channels, self._reader.sample_message())
        whole = len(samples)
        for size in (*[whole] * _WARM_UP_FRAMES, *range(1, whole)):
            _, failures = self._serve(dict(islice(samples.items(), size)))
            for error in failures.values():
                raise error
            # No sample may be brought together with the next, nor with what comes from outside.
            self._reader.forget()

    def serve(self, items: Mapping[str, Any]) -> None:
        """Serve a message of each slot; what goes wrong is counted and reported, never raised."""
        served, failures = self._serve(items)
        for slot, error in failures.items():
            self._fail(slot, error)
        for one in served:
            for slot in one.gathered.slots:
                self._channels[slot].monitor.processed(one.spans_of(slot))
            self._note(one)
        self._batches.served(sum(len(one.gathered.slots) for one in served))
        for one in served:
            self._show(one)

    def close(self) -> None:
        """Free the engine."""
        self._pipeline.close()

    def _serve(self, items: Mapping[str, Any]) -> tuple[list[_Served], dict[str, Exception]]:
        """Return what was served, and why the rest was not.

        The spans of a frame are those of its batch until its own result is published: that is how
        long it was on its way.
        """
        recorder = SpanRecorder()
        now_ns = self._clock.now().nanoseconds
        with recorder.span("decode"):
            gathered, ages, failures = self._gather(items, now_ns)
        try:
            processed = self._pipeline.process_all([one.frame for one in gathered])
        except Exception as error:
            return [], {**failures, **_for_all(gathered, error)}
        served = []
        for one, done in zip(gathered, processed):
            if isinstance(done, FrameError):
                failures |= _for_all([one], done)
                continue
            try:
                with recorder.span("publish"):
                    self._channels[one.slots[0]].outputs.publish(one.frame, done.result)
            except Exception as error:
                failures |= _for_all([one], error)
                continue
            spans = {**recorder.spans(), **done.spans}
            served.append(_Served(one, done.result, done.context, spans, ages))
        return served, failures

    def _gather(
        self, items: Mapping[str, Any], now_ns: int
    ) -> tuple[Sequence[Gathered], dict[str, int], dict[str, Exception]]:
        """Return what is to be served, the ages of the messages in it, and why others are not."""
        frames: dict[str, Any] = {}
        failures: dict[str, Exception] = {}
        for slot, message in items.items():
            try:
                frames[slot] = self._read(message)
            except Exception as error:
                failures[slot] = error
        ages = {slot: now_ns - frame.stamp_ns for slot, frame in frames.items()}
        try:
            gathering = self._reader.gather(frames)
        except Exception as error:
            return [], ages, {**failures, **dict.fromkeys(frames, error)}
        return gathering.frames, ages, {**failures, **gathering.refused}

    def _read(self, message: Any) -> Any:
        # What prepares frames on the device takes them as they came.
        raw = self._pipeline.takes_raw
        return self._reader.read_raw(message) if raw else self._reader.read(message)

    def _fail(self, slot: str, error: Exception) -> None:
        if isinstance(error, CudaError) and error.reason == "context_lost":
            self._give_up(str(error))
        if not (isinstance(error, AvCompressError) or rclpy.ok()):
            return  # The process ends; publishers are gone.
        known = isinstance(error, AvCompressError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        self._channels[slot].monitor.failed(reason)
        whose = f" of {slot}" if slot else ""
        how = "" if known else ", unexpectedly"
        if self._throttle.passes((slot, "skipped")):
            self._logger.error(f"message{whose} skipped{how}: {reason}")

    def _note(self, one: _Served) -> None:
        shortfalls = self._channels[one.first].outputs.shortfalls(one.context)
        notes = {**one.gathered.notes, **shortfalls}
        if notes:
            for slot in one.gathered.slots:
                self._channels[slot].monitor.degraded("; ".join(notes.values()))
        for about, text in notes.items():
            if self._throttle.passes((one.first, about)):
                self._logger.warning(text)

    def _show(self, one: _Served) -> None:
        channel = self._channels[one.first]
        try:
            channel.times.publish(one.spans_of(one.first))
            channel.outputs.publish_debug(one.gathered.frame, one.result, one.context)
        except Exception as error:
            if rclpy.ok() and self._throttle.passes((one.first, "debug")):
                self._logger.error(f"debug output failed: {error!r}")


def _for_all(gathered: Sequence[Gathered], error: Exception) -> dict[str, Exception]:
    return {slot: error for one in gathered for slot in one.slots}
