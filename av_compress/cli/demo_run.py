# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo, step by step: drive, bundle, node, table, report, picture."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from av_compress.build.builder import build_bundle
from av_compress.build.recipe import load_recipe
from av_compress.build.summary import build_summary
from av_compress.data.bags import BagImages
from av_compress.data.demo.drive import IMAGE_TOPIC, Drive, write_bag, write_dataset
from av_compress.engines.bundle import Bundle
from av_compress.engines.measurements import load_measurements
from av_compress.errors import EngineError, MissingExtraError, UsageError
from av_compress.fileio import atomic_file, write_text
from av_compress.metrics.average_precision import DetectionAP, average_precision
from av_compress.report.pictures import annotate
from av_compress.tasks.base import Detections2D, Labels2D

# Streets for calibration and gate; the drive's own seed is below 900, training's above 999.
CALIBRATION_SEEDS, GATE_SEEDS = range(910, 918), range(930, 938)
MARK = "demo.json"
NODE = "camera_detector"
SHUTDOWN_S = 5.0


def run_demo(output: Path, seed: int, seconds: float) -> int:
    """Run the demo into `output`.

    Raises:
        MissingExtraError: ROS is absent.
        UsageError: an argument is out of range, or `output` is something else's.
        AvCompressError: a step failed.

    """
    _check(output, seed, seconds)
    started = time.monotonic()
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    write_text(output / MARK, json.dumps({"seed": seed, "seconds": seconds}) + "\n")
    print(f"1. Rendering a drive of {seconds:g} s, and labelled images of other streets ...")
    truth = write_bag(Drive(seed, seconds), output / "drive")
    for name, seeds in (("calibration", CALIBRATION_SEEDS), ("gate", GATE_SEEDS)):
        write_dataset([Drive(s, 16.0, 0.5) for s in seeds], output / name)
    print("2. Building the INT8 bundle ...")
    bundle = build_bundle(load_recipe(_write_recipe(output)), output / "bundle")
    print(_indented(build_summary(bundle.manifest, load_measurements(bundle.root))))
    print("3. Playing the drive to the node over ROS 2 ...")
    received = _serve(output)
    print(_indented(_table(received, truth, bundle)))
    print("4. Replaying the drive against the FP32 model ...")
    replayed = _replay(output)
    picture = _picture(output, bundle, received)
    print(
        f"Done in {time.monotonic() - started:.0f} s. Reports: {output}/report.html (build), "
        f"{output}/replay/report.html (replay); picture: {picture}"
    )
    return replayed


def _check(output: Path, seed: int, seconds: float) -> None:
    if not 0 <= seed < 900:
        raise UsageError(f"--seed {seed} is not allowed; allowed: 0 to 899")
    if not 1 <= seconds <= 40:
        raise UsageError(f"--seconds {seconds:g} is not allowed; allowed: 1 to 40")
    if output.exists() and not (output / MARK).exists() and any(output.iterdir()):
        raise UsageError(f"--output {output} exists and is no earlier demo; choose another folder")
    for module in ("rclpy", "vision_msgs"):
        if find_spec(module) is None:
            raise MissingExtraError(
                module, "ros", "the demo's node (or source a ROS installation)"
            )


def _write_recipe(output: Path) -> Path:
    package = resources.files("av_compress.data.demo")
    for name in ("detector.onnx", "detector.task.yaml"):
        (output / name).write_bytes((package / name).read_bytes())
    recipe = {
        "name": "demo",
        "model": "detector.onnx",
        "task": "detector.task.yaml",
        "calibration": {"source": _source("calibration"), "samples": 64},
        "gate": {"source": _source("gate"), "samples": 64, "metric": "ap50", "max_loss": 1.0},
    }
    path = output / "recipe.yaml"
    write_text(path, yaml.safe_dump(recipe, sort_keys=False))
    return path


def _source(name: str) -> dict[str, str]:
    return {"type": "coco", "path": name, "annotations": f"{name}/annotations.json"}


def _serve(output: Path) -> dict[str, Any]:
    """Run node and player as processes of their own; return what the player received."""
    environment = _ros_environment()
    answers = output / "received.json"
    with _node(output, environment):
        command = [sys.executable, "-m", "av_compress.nodes.drive_player", str(output / "drive")]
        command += ["--topic", IMAGE_TOPIC, "--node", NODE, "--json", str(answers)]
        played = subprocess.run(command, env=environment, check=False, timeout=300)
    if played.returncode != 0:
        raise EngineError(f"the drive could not be played to the node; see {output / 'node.log'}")
    received: dict[str, Any] = json.loads(answers.read_text(encoding="utf-8"))
    if not received["answers"]:
        raise EngineError(f"the node published no detections; see {output / 'node.log'}")
    return received


@contextmanager
def _node(output: Path, environment: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", f"av_compress.nodes.{NODE}", "--ros-args"]
    command += ["-p", f"bundle_path:={output.resolve() / 'bundle'}"]
    with (output / "node.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(SHUTDOWN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = -signal.SIGKILL
    if code != 0:
        raise EngineError(f"the node ended with {code}; see {output / 'node.log'}")


def _ros_environment() -> dict[str, str]:
    """Return an environment in which nobody else's nodes are heard."""
    environment = dict(os.environ)
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    environment.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 100)))
    profile = _shm_profile()
    if profile is not None:
        environment.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))
    return environment


def _shm_profile() -> Path | None:
    """Find the Fast DDS profile in a source tree or where it was installed."""
    name = Path("config") / "fastdds_shm_profile.xml"
    root = Path(__file__).resolve().parents[2]
    share = [Path(p) / "share/av_compress" for p in (sys.prefix, *sys.path[:0])]
    share += [Path(p) / "share/av_compress" for p in _ament_prefixes()]
    return next((p / name for p in (root, *share) if (p / name).is_file()), None)


def _ament_prefixes() -> list[str]:
    return [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]


def _table(received: dict[str, Any], truth: Sequence[Labels2D], bundle: Bundle) -> str:
    answers = received["answers"]
    latencies = np.array([answer["latency_ms"] for answer in answers])
    accuracy = _accuracy(received, truth, bundle)
    figures = received["diagnostics"]
    lines = [
        f"images published        {received['images']:>8}",
        f"answered                {len(answers):>8}",
        f"dropped (latest wins)   {figures.get('dropped', '?'):>8}",
        f"detections              {sum(len(a['detections']) for a in answers):>8}",
        f"AP50 against the labels {100 * accuracy.ap50:>8.1f}",
        "",
        "latency in ms              p50      p95      p99      max",
        _latency_row("publish to received", np.percentile(latencies, [50, 95, 99, 100])),
    ]
    for name in ("input_age", "preprocess", "execute", "postprocess", "publish"):
        keys = [f"{name}_{part}_ms" for part in ("p50", "p95", "p99", "max")]
        if all(key in figures for key in keys):
            lines.append(_latency_row(f"node: {name}", [float(figures[key]) for key in keys]))
    return "\n".join(lines)


def _latency_row(name: str, values: Any) -> str:
    return f"{name:<22}" + "".join(f"{value:9.2f}" for value in values)


def _accuracy(received: dict[str, Any], truth: Sequence[Labels2D], bundle: Bundle) -> DetectionAP:
    results = [_detections(answer["detections"]) for answer in received["answers"]]
    labels = [truth[answer["image"]] for answer in received["answers"]]
    return average_precision(results, labels, bundle.task().class_names)


def _detections(found: list[dict[str, Any]]) -> Detections2D:
    return Detections2D(
        np.array([one["box"] for one in found], np.float32).reshape(-1, 4),
        np.array([one["score"] for one in found], np.float32),
        np.array([one["label"] for one in found], np.int32),
    )


def _replay(output: Path) -> int:
    from av_compress.cli.main import main

    arguments = ["replay", str(output / "drive"), "--bundle", str(output / "bundle")]
    arguments += ["--topic", IMAGE_TOPIC, "--reference", str(output / "detector.onnx")]
    arguments += ["--report", str(output / "replay"), "--output", str(output / "detections.mcap")]
    shutil.copy2(output / "bundle" / "report.html", output / "report.html")
    return main(arguments)


def _picture(output: Path, bundle: Bundle, received: dict[str, Any]) -> Path:
    """Draw what the node published for the image with the most detections."""
    best = max(received["answers"], key=lambda answer: len(answer["detections"]))
    with closing(BagImages(output / "drive", IMAGE_TOPIC)) as source:
        frame = source.read(best["image"])
    picture = annotate(frame, _detections(best["detections"]), bundle.task().class_names)
    path = output / "detections.png"
    with atomic_file(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return path


def _indented(text: str) -> str:
    return "\n".join(f"   {line}".rstrip() for line in text.splitlines())
