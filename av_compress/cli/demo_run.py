# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo, step by step: drive, bundles, nodes, tables, replays, page."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2

from av_compress.build.builder import build_bundle
from av_compress.build.recipe import load_recipe
from av_compress.build.summary import build_summary
from av_compress.cli.demo_sensors import SENSORS, Pixels, Sensor, accuracy, results
from av_compress.cli.demo_serving import serve
from av_compress.data.demo.drive import Drive, Truth, write_bag
from av_compress.engines.bundle import Bundle
from av_compress.engines.measurements import load_measurements
from av_compress.errors import MissingExtraError, UsageError
from av_compress.fileio import atomic_file, write_text
from av_compress.report.demo_page import Served, served_text, write_demo_report
from av_compress.report.page import jpeg_picture

MARK = "demo.json"
PAGE = "report.html"


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
    print(f"1. Rendering a drive of {seconds:g} s, and labelled frames of other streets ...")
    truth = write_bag(Drive(seed, seconds), output / "drive")
    recipes = {sensor: sensor.write_recipe(output) for sensor in SENSORS}
    bundles = {}
    for sensor, recipe in recipes.items():
        print(f"2. Building the INT8 bundle of the {sensor.name}'s detector ...")
        bundle = build_bundle(load_recipe(recipe), sensor.folder(output, "bundle"))
        print(_indented(build_summary(bundle.manifest, load_measurements(bundle.root))))
        bundles[sensor] = bundle
    print("3. Playing the drive to both nodes over ROS 2 ...")
    received = serve(
        output,
        {sensor.node: sensor.topic for sensor in SENSORS},
        {sensor.node: bundle.root for sensor, bundle in bundles.items()},
    )
    served = [_served(s, output, received[s.node], truth, bundles[s]) for s in SENSORS]
    print("\n\n".join(_indented(served_text(one)) for one in served))
    write_demo_report(served, f"Drive {seed}, {seconds:g} s", output / PAGE)
    replayed = 0
    for sensor in SENSORS:
        print(f"4. Replaying the drive against the {sensor.name}'s FP32 model ...")
        replayed = replayed or _replay(sensor, output)
    print(f"Done in {time.monotonic() - started:.0f} s. Report: {output / PAGE}")
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
                module, "ros", "the demo's nodes (or source a ROS installation)"
            )


def _served(
    sensor: Sensor, output: Path, received: Mapping[str, Any], truth: Truth, bundle: Bundle
) -> Served:
    """Judge what a node published, and draw the frame in which it found most."""
    task, answers = bundle.task(), received["answers"]
    found, labels = results(answers, task), sensor.labels(truth, task)
    numbers = [answer["frame"] for answer in answers]
    best = max(range(len(found)), key=lambda index: len(found[index]))
    number = numbers[best]
    drawn = sensor.picture(output / "drive", number, found[best], labels[number], task)
    _write_picture(drawn, sensor.folder(output, "detections.png"))
    return Served(
        name=sensor.name,
        node=sensor.node,
        frames=received["frames"],
        latencies_ms=[answer["latency_ms"] for answer in answers],
        detections=sum(map(len, found)),
        accuracy=accuracy(found, [labels[n] for n in numbers], task),
        diagnostics=received["diagnostics"],
        picture=jpeg_picture(drawn, f"Frame {number} of {sensor.topic} with detections."),
        upright=drawn.shape[0] > drawn.shape[1],
        caption=f"Frame {number} of {sensor.topic}: {len(found[best])} detections.{sensor.shows}",
        links={
            "How the bundle was built": f"{sensor.prefix}bundle/report.html",
            "How it agrees with the FP32 model": f"{sensor.prefix}replay/report.html",
        },
    )


def _replay(sensor: Sensor, output: Path) -> int:
    from av_compress.cli.main import main

    folder, reference = sensor.folder(output, "bundle"), output / f"{sensor.model}.onnx"
    arguments = ["replay", str(output / "drive"), "--bundle", str(folder)]
    arguments += ["--topic", sensor.topic, "--reference", str(reference)]
    arguments += ["--report", str(sensor.folder(output, "replay"))]
    arguments += ["--output", str(sensor.folder(output, "detections.mcap"))]
    return main(arguments)


def _write_picture(picture: Pixels, path: Path) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def _indented(text: str) -> str:
    return "\n".join(f"   {line}".rstrip() for line in text.splitlines())
