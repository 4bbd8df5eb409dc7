# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle client, where the middleware answers and where it does not."""

import helpers_node
import pytest

helpers_node.require_ros("lifecycle_msgs.srv")

from functools import partial

from av_compress.errors import EngineError
from av_compress.nodes import lifecycle
from av_compress.nodes.lifecycle import LifecycleClient


@pytest.fixture(scope="module", autouse=True)
def _ros():
    with helpers_node.ros_context():
        yield


@pytest.fixture
def probe():
    probe = helpers_node.Probe()
    yield probe
    probe.stop()


@pytest.fixture
def client(probe):
    return LifecycleClient(probe.node, "served", partial(probe._executor.spin_once, 0.02))


@pytest.fixture
def served():
    from rclpy.lifecycle import LifecycleNode

    spinning = helpers_node.Spinning(LifecycleNode("served"))
    yield spinning.node
    spinning.stop()


def test_transitions_are_made(served, client):
    assert client.state() == "unconfigured"
    assert client.change("configure")
    assert client.change("activate")
    assert client.state() == "active"


def test_a_transition_that_is_not_allowed_is_told(served, client):
    assert not client.change("activate")


def test_a_lost_answer_is_replaced_by_the_state(served, client, monkeypatch):
    monkeypatch.setattr(lifecycle, "ANSWER_S", 0.3)
    send = client._change.call_async

    class Lost:
        def done(self):
            return False

    def lose(request):
        send(request)
        return Lost()

    monkeypatch.setattr(client._change, "call_async", lose)
    assert client.change("configure")
    assert client.state() == "inactive"


def test_a_node_that_is_not_there_is_named(client, monkeypatch):
    monkeypatch.setattr(lifecycle, "PATIENCE_S", 0.3)
    with pytest.raises(EngineError, match="served"):
        client.change("configure")
