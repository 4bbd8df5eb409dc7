# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Spans: the stretches of time that a frame passes through."""

from __future__ import annotations

import time
from types import TracebackType

SPAN_NAMES = (
    "input_age",
    "decode",
    "preprocess",
    "h2d",
    "execute",
    "d2h",
    "postprocess",
    "publish",
)


class SpanRecorder:
    """The spans of one frame. Owned by the thread that serves the frame."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        """Start without spans."""
        self._spans: dict[str, int] = {}

    def span(self, name: str) -> _Span:
        """Return a context manager whose duration is added to span `name`.

        Raises:
            KeyError: `name` is not one of `SPAN_NAMES`.

        """
        return _Span(self, name)

    def add(self, name: str, duration_ns: int) -> None:
        """Add `duration_ns` to span `name`.

        Raises:
            KeyError: `name` is not one of `SPAN_NAMES`.

        """
        if name not in SPAN_NAMES:
            raise KeyError(f"no span is called {name!r}; there are: {', '.join(SPAN_NAMES)}")
        self._spans[name] = self._spans.get(name, 0) + duration_ns

    def spans(self) -> dict[str, int]:
        """Return span name -> nanoseconds, for the spans that were recorded."""
        return dict(self._spans)


class _Span:
    """One stretch of time. A class and not a generator: it costs a third as much."""

    __slots__ = ("_name", "_recorder", "_started")

    def __init__(self, recorder: SpanRecorder, name: str) -> None:
        self._recorder = recorder
        self._name = name
        self._started = 0

    def __enter__(self) -> None:
        self._started = time.perf_counter_ns()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._recorder.add(self._name, time.perf_counter_ns() - self._started)
