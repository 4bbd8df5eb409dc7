# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The vehicle's motion out of messages, for bringing sweeps together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from av_compress.data.motion_messages import (
    ODOMETRY,
    TF,
    TF_STATIC_TOPIC,
    TF_TOPIC,
    MotionMessages,
)
from av_compress.data.transforms import Transform, Transforms

_ODOMETRY_TOPIC = "~/input/odometry"


@dataclass(frozen=True)
class Listener:
    """Something that a node hears beside what it serves.

    Attributes:
        topic: its name.
        kind: its message type.
        latched: whether late subscribers get what was published before.
        receive: takes a message; must be quick and must not raise.

    """

    topic: str
    kind: str
    latched: bool
    receive: Callable[[Any], None]


class SharedTransforms(Transforms):
    """Transforms that one thread hears and another looks up."""

    def __init__(self) -> None:
        """Start without frames."""
        super().__init__()
        self._lock = threading.Lock()

    def add(self, parent: str, child: str, stamp_ns: int, transform: Transform) -> None:
        """See `Transforms.add`."""
        with self._lock:
            super().add(parent, child, stamp_ns, transform)

    def add_static(self, parent: str, child: str, transform: Transform) -> None:
        """See `Transforms.add_static`."""
        with self._lock:
            super().add_static(parent, child, transform)

    def forget(self, child: str) -> None:
        """See `Transforms.forget`."""
        with self._lock:
            super().forget(child)

    def clear(self) -> None:
        """See `Transforms.clear`."""
        with self._lock:
            super().clear()

    def lookup(self, target: str, source: str, stamp_ns: int) -> Transform:
        """See `Transforms.lookup`."""
        with self._lock:
            return super().lookup(target, source, stamp_ns)


class Motion:
    """Hears odometry and tf.

    Attributes:
        transforms: what was heard.

    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        """Hear nothing yet.

        Args:
            warn: is told of transforms that are none, and of sources that are left out.

        """
        self.transforms = SharedTransforms()
        self._messages = MotionMessages(self.transforms, _ODOMETRY_TOPIC, warn, warn)

    def forget(self) -> None:
        """Forget what was heard, but for what never changes; not while messages are heard."""
        self.transforms.clear()
        self._messages.forget()

    def listeners(self) -> list[Listener]:
        """Return what is to be heard."""
        return [
            Listener(_ODOMETRY_TOPIC, ODOMETRY, False, self._messages.odometry),
            Listener(TF_TOPIC, TF, False, self._messages.tf),
            Listener(TF_STATIC_TOPIC, TF, True, self._messages.tf_static),
        ]
