# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""camera_detector through its lifecycle: what each state holds, and what refuses to configure."""

import gc
import sys
import threading
import weakref
from pathlib import Path

import helpers_node
import pytest
from helpers_camera_node import (
    COMPRESSED,
    DETECTIONS,
    IMAGE,
    NAME,
    activate,  # noqa: F401
    bundle,  # noqa: F401
    expect_detections,
    probe,  # noqa: F401
    raw_image,
    ros,  # noqa: F401
    start,  # noqa: F401
)
from helpers_trust import public, sign, write_keys
from test_bundle import edit

helpers_node.require_ros("vision_msgs.msg")

from rclpy.qos import QoSReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from av_compress.engines.pipeline import Pipeline
from av_compress.errors import EngineError


def test_quality_of_service_can_be_overridden(start, probe):
    key = f"qos_overrides.{IMAGE}.subscription.reliability"
    start(**{key: "reliable"})
    assert probe.change_state(NAME, "configure")
    assert probe.change_state(NAME, "activate")
    (info,) = probe.node.get_subscriptions_info_by_topic(IMAGE)
    assert info.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
    (info,) = probe.node.get_subscriptions_info_by_topic(COMPRESSED)
    assert info.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT


def test_an_inactive_node_subscribes_to_nothing(activate, probe):
    activate()
    assert probe.node.count_subscribers(IMAGE) == 1
    assert probe.change_state(NAME, "deactivate")
    probe.until(lambda: probe.node.count_subscribers(IMAGE) == 0, "end of the subscription")
    assert probe.node.count_publishers(DETECTIONS) == 1
    assert probe.change_state(NAME, "cleanup")
    probe.until(lambda: probe.node.count_publishers(DETECTIONS) == 0, "end of the publisher")
    assert probe.state(NAME) == "unconfigured"


def test_cleanup_frees_the_engine_its_thread_and_the_entities(activate, probe, monkeypatch):
    from av_compress.engines import bundle as bundle_module

    engines: list[weakref.ref] = []
    open_engine = bundle_module.Bundle.open_engine

    def remember(*args, **kwargs):
        engine = open_engine(*args, **kwargs)
        engines.append(weakref.ref(engine))
        return engine

    monkeypatch.setattr(bundle_module.Bundle, "open_engine", remember)
    received = probe.collect(Detection2DArray, DETECTIONS)
    threads = threading.active_count() + 1  # The executor's.
    node = activate()
    publishers = len(list(node.publishers))
    for _ in range(3):
        publisher = probe.publisher(Image, IMAGE)
        expect_detections(probe, publisher, raw_image(), received)
        probe.node.destroy_publisher(publisher)
        assert probe.change_state(NAME, "deactivate")
        assert probe.change_state(NAME, "cleanup")
        gc.collect()
        assert threading.active_count() == threads
        assert engines
        assert all(engine() is None for engine in engines)
        assert not [topic for topic in (IMAGE, COMPRESSED) if node.count_subscribers(topic)]
        assert probe.change_state(NAME, "configure")
        assert probe.change_state(NAME, "activate")
        assert len(list(node.publishers)) == publishers


def test_a_model_that_does_not_run_is_closed_again(start, probe, monkeypatch):
    closed = []
    close = Pipeline.close

    def fail(self, frame):
        raise EngineError("out of memory")

    def remember(self):
        closed.append(self)
        close(self)

    monkeypatch.setattr(Pipeline, "process", fail)
    monkeypatch.setattr(Pipeline, "close", remember)
    start()
    assert not probe.change_state(NAME, "configure")
    assert len(closed) == 1
    assert all(thread.name != NAME for thread in threading.enumerate())


def test_shutdown_from_active_frees_everything(activate, probe):
    activate()
    assert probe.change_state(NAME, "shutdown")
    assert probe.state(NAME) == "finalized"
    assert all(thread.name != NAME for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "not_a_bundle"),
        (lambda folder: (folder / "cpu/model.onnx").write_bytes(b"x"), "artefact_hash"),
        (
            lambda folder: edit(folder, lambda value: value["task"].update(kind="other")),
            "serves camera_detection",
        ),
    ],
    ids=["no manifest", "tampered model", "other task"],
)
def test_a_bundle_that_is_refused_leaves_the_node_unconfigured(
    start, probe, bundle, capfd, spoil, words
):
    spoil(bundle)
    start()
    assert not probe.change_state(NAME, "configure")
    assert probe.state(NAME) == "unconfigured"
    log = capfd.readouterr().err
    assert "configure failed" in log
    assert words in log
    assert "Traceback" not in log
    assert probe.node.count_publishers(DETECTIONS) == 0


def signed(bundle: Path) -> tuple[Path, Path]:
    """Sign the bundle; return the public key and one that signed nothing."""
    keys = [write_keys(bundle.parent, name) for name in ("mine", "other")]
    sign(bundle, keys[0])
    return public(keys[0]), public(keys[1])


def test_a_bundle_that_a_trusted_key_signed_is_served(start, probe, bundle, capfd):
    mine, other = signed(bundle)
    start(require_signature=True, trusted_keys=["", str(other), str(mine)])
    assert probe.change_state(NAME, "configure")
    assert "its signature verified" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("trusted", "spoil", "words"),
    [
        ("mine", lambda folder: (folder / "manifest.sig").unlink(), "[unsigned]"),
        ("other", lambda folder: None, "[unknown_key]"),
        (
            "mine",
            lambda folder: edit(folder, lambda value: value.update(name="other")),
            "[signature_stale]",
        ),
        ("mine", lambda folder: (folder / "manifest.sig").write_text("{"), "signature_unreadable"),
        ("mine", lambda folder: (folder / "cpu/model.onnx").write_bytes(b"x"), "artefact_hash"),
        ("", lambda folder: None, "trusted_keys names no public key"),
        ("absent", lambda folder: None, "cannot be read: No such file"),
    ],
    ids=["unsigned", "unknown key", "changed", "torn", "tampered model", "no keys", "no file"],
)
def test_a_signature_that_does_not_hold_leaves_the_node_unconfigured(
    start, probe, bundle, capfd, trusted, spoil, words
):
    mine, other = signed(bundle)
    spoil(bundle)
    names = {"mine": str(mine), "other": str(other), "": "", "absent": str(bundle / "no.pem")}
    start(require_signature=True, trusted_keys=[names[trusted]])
    assert not probe.change_state(NAME, "configure")
    log = capfd.readouterr().err
    assert words in log
    assert "Traceback" not in log
    assert probe.state(NAME) == "unconfigured"


def test_without_cryptography_the_node_says_what_to_install(start, probe, bundle, capfd, request):
    mine, _ = signed(bundle)
    loaded = {name: module for name, module in sys.modules.items() if "cryptography" in name}
    for name in loaded:
        sys.modules[name] = None
    request.addfinalizer(lambda: sys.modules.update(loaded))
    start(require_signature=True, trusted_keys=[str(mine)])
    assert not probe.change_state(NAME, "configure")
    assert "pip install 'av_compress[signing]'" in capfd.readouterr().err


def test_a_repaired_bundle_is_taken(start, probe, bundle):
    manifest = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").unlink()
    start()
    assert not probe.change_state(NAME, "configure")
    (bundle / "manifest.json").write_text(manifest)
    assert probe.change_state(NAME, "configure")
    assert probe.state(NAME) == "inactive"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"bundle_path": ""}, "bundle_path is empty"),
        ({"backend": "tensorflow"}, "allowed: "),
        ({"onnxruntime.providers": ["MoonProvider"]}, "MoonProvider"),
    ],
)
def test_a_parameter_that_cannot_work_is_named(start, probe, capfd, parameters, words):
    start(**parameters)
    assert not probe.change_state(NAME, "configure")
    assert words in capfd.readouterr().err


def test_a_transition_that_is_not_allowed_leaves_the_node_alive(start, probe):
    start()
    assert not probe.change_state(NAME, "activate")
    assert probe.state(NAME) == "unconfigured"
    assert probe.change_state(NAME, "configure")
