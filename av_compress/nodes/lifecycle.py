# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Changing another node's lifecycle state, although the middleware may lose an answer.

A service counts as ready once its client has found the server; the server may not have found the
client by then, and its answer is then lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from av_compress.errors import EngineError

PATIENCE_S = 60.0
# An answer that took longer may be lost.
ANSWER_S = 5.0
GOALS = {
    "configure": "inactive",
    "activate": "active",
    "deactivate": "inactive",
    "cleanup": "unconfigured",
    "shutdown": "finalized",
}


class LifecycleClient:
    """Asks one lifecycle node for its state and for transitions."""

    def __init__(self, node: Any, target: str, spin_once: Callable[[], None]) -> None:
        """Prepare.

        Args:
            node: the asking rclpy node.
            target: name of the node that is asked, in the root namespace.
            spin_once: lets `node` work for a moment, or waits where another thread spins it.

        """
        from lifecycle_msgs.srv import ChangeState, GetState

        self._target, self._spin_once, self._node = target, spin_once, node
        self._change = node.create_client(ChangeState, f"/{target}/change_state")
        self._get = node.create_client(GetState, f"/{target}/get_state")

    def state(self) -> str:
        """Return the label of the node's state.

        Raises:
            EngineError: it does not answer.

        """
        from lifecycle_msgs.srv import GetState

        self._until(self._get.service_is_ready, PATIENCE_S)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            future = self._get.call_async(GetState.Request())
            self._spin_until_done([future])
            if future.done():
                return str(future.result().current_state.label)
        raise EngineError(f"waited {PATIENCE_S:g} s in vain for the state of {self._target}")

    def change(self, transition: str) -> bool:
        """Ask for a transition (`configure`, `activate` ...); tell whether it succeeded.

        Raises:
            EngineError: the node does not answer.

        """
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.label = transition
        self._until(self._change.service_is_ready, PATIENCE_S)
        futures = []
        # What was lost may have been the answer or the request, so it is sent again once. Where
        # the first one only took long, the second is refused: the state tells how it went.
        for _ in range(2):
            futures.append(self._change.call_async(request))
            self._spin_until_done(futures)
            if any(f.done() and f.result().success for f in futures):
                return True
            if self.state() == GOALS[transition]:
                return True
            if any(f.done() for f in futures):
                return False
        return False

    def close(self) -> None:
        """Give the clients back."""
        self._node.destroy_client(self._change)
        self._node.destroy_client(self._get)

    def _spin_until_done(self, futures: Sequence[Any]) -> None:
        end = time.monotonic() + ANSWER_S
        while not any(future.done() for future in futures) and time.monotonic() < end:
            self._spin_once()

    def _until(self, condition: Callable[[], bool], patience_s: float) -> None:
        end = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() > end:
                raise EngineError(f"waited {patience_s:g} s in vain for {self._target}")
            self._spin_once()
