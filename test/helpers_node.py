# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes on the real middleware; conftest.py keeps it to this process and its children."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

WAIT_S = 30.0


def require_ros(*modules: str) -> None:
    """Skip the calling module where ROS or one of `modules` is absent."""
    for module in ("rclpy", *modules):
        pytest.importorskip(module, reason=f"needs ROS 2 ({module}); see README, Installation")


@contextmanager
def ros_context() -> Iterator[None]:
    """Initialise rclpy and shut it down again."""
    import rclpy

    rclpy.init()
    try:
        yield
    finally:
        rclpy.try_shutdown()


class Spinning:
    """A node whose executor spins in a thread of its own."""

    def __init__(self, node: Any) -> None:
        from rclpy.executors import SingleThreadedExecutor

        self.node = node
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._executor.shutdown()
        self._thread.join(WAIT_S)
        self.node.destroy_node()
        # A lifecycle node's services live in a reference cycle, and answer until it is collected.
        del self.node, self._executor
        gc.collect()


class Probe:
    """A node that talks to the node under test; spun by the test itself."""

    def __init__(self, name: str = "probe", **kwargs: Any) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.node = rclpy.create_node(name, **kwargs)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def collect(self, kind: Any, topic: str, qos: Any = 10) -> list[Any]:
        """Return a list that every message of `topic` is added to."""
        received: list[Any] = []
        self.node.create_subscription(kind, topic, received.append, qos)
        return received

    def logs(self) -> list[Any]:
        """Return a list that what nodes log is added to, with what they logged before."""
        from rcl_interfaces.msg import Log
        from rclpy.qos import QoSDurabilityPolicy, QoSProfile

        latched = QoSProfile(depth=1000, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        return self.collect(Log, "/rosout", latched)

    def told(self, text: str, logs: list[Any]) -> None:
        """Spin until a node has logged a text."""
        self.until(lambda: any(text in one.msg for one in logs), f"word of {text!r}")

    def publisher(self, kind: Any, topic: str, qos: Any = 1) -> Any:
        """Return a publisher that a subscriber has been matched to."""
        publisher = self.node.create_publisher(kind, topic, qos)
        self.until(lambda: publisher.get_subscription_count() > 0, f"a subscriber of {topic}")
        return publisher

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> None:
        """Spin until `condition` holds; fail, naming `what`, when it never does."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"no {what} after {timeout_s} s"
            self._executor.spin_once(timeout_sec=0.05)

    def spin_until(self, condition: Callable[[], Any], timeout_s: float) -> None:
        """Spin until `condition` holds, or for `timeout_s`."""
        end = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)

    def spin_for(self, seconds: float) -> None:
        """Spin for a while, where the point is that nothing comes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)

    def change_state(self, node_name: str, transition: str) -> bool:
        """Ask a node for a transition; tell whether it succeeded."""
        return self._lifecycle(node_name, lambda client: client.change(transition))

    def state(self, node_name: str) -> str:
        """Return the label of a node's lifecycle state."""
        return self._lifecycle(node_name, lambda client: client.state())

    def _lifecycle(self, node_name: str, ask: Callable[[Any], Any]) -> Any:
        from av_compress.nodes.lifecycle import LifecycleClient

        spin_once = partial(self._executor.spin_once, timeout_sec=0.05)
        client = LifecycleClient(self.node, node_name, spin_once)
        try:
            return ask(client)
        finally:
            client.close()

    def call(self, kind: Any, service: str, request: Any) -> Any:
        """Call a service."""
        client = self.node.create_client(kind, service)
        self.until(client.service_is_ready, f"service {service}")
        future = client.call_async(request)
        self.until(future.done, f"answer of {service}")
        self.node.destroy_client(client)
        return future.result()

    def stop(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
