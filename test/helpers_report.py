# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Results to report on, with names that do their worst, and a strict reader of pages."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import numpy as np

from av_compress.engines.manifest import (
    ArtefactRecord,
    AttemptRecord,
    CalibrationRecord,
    CheckRecord,
    FrameDigest,
    GateRecord,
    Manifest,
    ModelRecord,
    NodeRecord,
)
from av_compress.engines.measurements import Measurements, SpeedRecord, Spread
from av_compress.fileio import sha256_bytes
from av_compress.metrics.agreement import compare_frame, summarise
from av_compress.metrics.average_precision import ClassAP, DetectionAP
from av_compress.metrics.replay import (
    BadFrame,
    FrameRecord,
    GateOutcome,
    ReplayedModel,
    ReplayResult,
    WorstFrame,
)
from av_compress.report.build_page import (
    FP32,
    BuildReport,
    PassRow,
    SearchRows,
    SensitivityRow,
    ShareRow,
    TensorRange,
)
from av_compress.tasks.base import Detections2D, ImageFrame

EVIL = '<script>alert("1")</script>'
CLASSES = ("car", "person & dog", EVIL, "$\\frac{price$ 行人")
SHA = "0123456789abcdef" * 4


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections2D:
    """Make a result of rows x1 y1 x2 y2 score label."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections2D(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int32),
    )


def frame_record(index: int, reference: bool) -> FrameRecord:
    """Make a frame with a shifted car, a person that comes and goes, and a false alarm."""
    truth = detections((10, 10, 60, 50, 0.9, 0), (70, 20, 90, 60, 0.6, 1))
    found = [(11, 10, 61, 50, 0.85 + 0.01 * (index % 3), 0)]
    if index % 2:
        found.append((70, 20, 90, 60, 0.62, 1))
    if index % 5 == 0:
        found.append((100, 70, 140, 110, 0.4, index % 4))
    result = detections(*found)
    spans = {
        "decode": 1_000_000 + 10_000 * index,
        "preprocess": 500_000,
        "execute": 9_000_000 + 40_000 * ((7 * index) % 13),
        "postprocess": 250_000,
    }
    record = FrameRecord(index, f"/camera#{index}", 10**9 + index * 10**8, spans, result)
    if not reference:
        return record
    return replace(
        record,
        reference=truth,
        reference_spans={name: 2 * value for name, value in spans.items()},
        agreement=compare_frame(truth, result),
    )


def replay_result(
    frames: int = 12,
    reference: bool = True,
    gates: tuple[GateOutcome, ...] = (),
    bad: int = 0,
    worst: int = 2,
) -> ReplayResult:
    """Make a replay's result."""
    records = tuple(frame_record(index, reference) for index in range(frames))
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    return ReplayResult(
        source=f"bag drive_{EVIL}, topic /camera/image_raw",
        class_names=CLASSES,
        candidate=ReplayedModel("bundle/cpu", SHA, "onnxruntime CPU"),
        reference=ReplayedModel("detector.onnx", SHA[::-1], "onnxruntime CPU")
        if reference
        else None,
        frames=records,
        bad=tuple(BadFrame(frames + i, f"/camera#{frames + i}", EVIL) for i in range(bad)),
        agreement=summarise([r.agreement for r in records], CLASSES) if reference else None,
        worst=tuple(
            WorstFrame(record, ImageFrame(pixels)) for record in records[:worst] if reference
        ),
        gates=gates,
        wall_s=12.34,
    )


def gate(candidate: float, max_loss: float = 1.0, metric: str = "ap50") -> GateRecord:
    return GateRecord(
        metric=metric,
        reference=50.0,
        candidate=candidate,
        max_loss=max_loss,
        passed=50.0 - candidate <= max_loss,
        source=f"coco {EVIL}.json",
        frames=27,
        figures={"fp32_ap50": 50.0, "ap50": candidate},
    )


def precision_of(ap50: float) -> DetectionAP:
    per_class = {
        name: ClassAP(ap=0.5 * ap50, ap50=ap50, truths=10 * (index + 1))
        for index, name in enumerate(CLASSES)
    }
    return DetectionAP(ap=0.5 * ap50, ap50=ap50, ap75=0.4 * ap50, per_class=per_class)


def attempt(candidate: str, reached: float, size: int, max_bytes: int = 2**20) -> AttemptRecord:
    """Make an attempt that reached some of 50 points, of which one may be lost."""
    lost = 50.0 - reached
    fits = size <= max_bytes
    checks = (
        CheckRecord(
            "accuracy", lost, 1.0, "passed" if lost <= 1 else "failed", f"lost {lost:.2f} of AP50"
        ),
        CheckRecord("class", lost, 2.0, "passed", f"class {EVIL} loses most"),
        CheckRecord("size", size, max_bytes, "passed" if fits else "failed", f"{size} bytes"),
        CheckRecord("speed", None, 1.0, "passed", "at least 1.00 times as fast as fp32"),
    )
    failed = [check.reason for check in checks if check.verdict == "failed"]
    return AttemptRecord(
        candidate=candidate,
        verdict="refused" if failed else "accepted",
        reason="; ".join(failed) or "every condition holds",
        int8_mac_share=0.75 if candidate == "int8" else 0.0,
        bytes=size,
        sha256=digest(candidate),
        checks=checks,
    )


def skipped(candidate: str) -> AttemptRecord:
    reason = "the cpu form has no FP16 kernels"
    return AttemptRecord(candidate, "skipped", reason, None, None, None, ())


def digest(candidate: str) -> str:
    """Return a hash of a candidate's file."""
    return sha256_bytes(candidate.encode())


def build_report(tensorrt: float = 49.5, cpu: float = 49.25) -> BuildReport:
    """Make a build's findings; the arguments are what the candidates reach of 50 points."""
    nodes = ("conv_1", EVIL, "conv_3")
    artefacts = {
        emitter: ArtefactRecord(
            path=f"{emitter}/model.onnx",
            sha256=digest("int8"),
            bytes=size,
            int8_mac_share=0.75,
            nodes=tuple(
                NodeRecord(node, "Conv", "int8" if node != "conv_1" else base, "because")
                for node in nodes
            ),
            gate=gate(reached),
            attempts=(attempt("int8", reached, size),),
        )
        for emitter, base, size, reached in (
            ("tensorrt", "fp16", 600_000, tensorrt),
            ("cpu", "fp32", 400_000, cpu),
        )
    }
    manifest = Manifest(
        name=f"detector {EVIL}",
        source=ModelRecord("detector.onnx", SHA, 1_048_576),
        recipe={"model": "detector.onnx", "precision": {"exclude": [EVIL]}},
        recipe_sha256=SHA,
        task={"kind": "camera_detection"},
        calibration=CalibrationRecord(
            "coco train.json", "coverage", "mse", SHA, (FrameDigest(f"{EVIL}.jpg", SHA),)
        ),
        artefacts=artefacts,
        versions={"onnx": "1.2.3", "av_compress": "0.1.0"},
    )
    accuracy = {
        model: {"labels": precision_of(reached / 100), "agreement": precision_of(reached / 60)}
        for model, reached in ((FP32, 50.0), ("tensorrt", tensorrt), ("cpu", cpu))
    }
    return BuildReport(
        manifest=manifest,
        accuracy=accuracy,
        measurements=Measurements("a processor, 2 cores", (speed_record(),)),
        macs=dict(zip(nodes, (25_000_000, 50_000_000, 25_000_000))),
        passes=(PassRow("check", 9, 9, ""), PassRow("simplify", 9, 7, "removed 2 Identity")),
        deviation=1.25e-5,
        ranges=tuple(tensor_range(name, spread) for name, spread in zip(nodes, (1.0, 3.0, 9.0))),
    )


def fallen_back() -> BuildReport:
    """Make a build whose cpu form was accepted in FP32 alone, after a search."""
    report = build_report(cpu=50.0)
    attempts = (
        attempt("int8", 40.0, 400_000),
        attempt("mixed", 48.0, 500_000),
        skipped("fp16"),
        attempt("fp32", 50.0, 1_048_576),
    )
    cpu = replace(
        report.manifest.artefacts["cpu"],
        sha256=digest("fp32"),
        bytes=1_048_576,
        int8_mac_share=0.0,
        attempts=attempts,
    )
    artefacts = {**report.manifest.artefacts, "cpu": cpu}
    return replace(
        report,
        manifest=replace(report.manifest, artefacts=artefacts),
        searches={"cpu": search_rows()},
    )


def refused() -> BuildReport:
    """Make a build whose cpu form fails in accuracy as INT8, in size as FP32."""
    report = build_report(cpu=40.0)
    attempts = (attempt("int8", 40.0, 400_000), attempt("fp32", 50.0, 1_048_576, 500_000))
    cpu = replace(report.manifest.artefacts["cpu"], attempts=attempts)
    artefacts = {**report.manifest.artefacts, "cpu": cpu}
    return replace(report, manifest=replace(report.manifest, artefacts=artefacts))


def search_rows() -> SearchRows:
    rows = (
        SensitivityRow("conv_1", 25_000_000, 3.0, 12.5, "fp32"),
        SensitivityRow(EVIL, 50_000_000, 0.25, None, "int8"),
        SensitivityRow("conv_3", 25_000_000, 0.0, 40.0, "int8"),
    )
    shares = (ShareRow(1.0, 9.0, False), ShareRow(0.75, 0.5, True))
    return SearchRows(rows, "points lost", shares, 1.0)


def speed_record() -> SpeedRecord:
    return SpeedRecord(
        emitter="cpu",
        candidate="int8",
        sha256=digest("int8"),
        against="fp32",
        engine="onnxruntime",
        threads=1,
        rounds=30,
        candidate_ms=Spread(20.0, 21.0, 22.0, 23.0),
        against_ms=Spread(30.0, 31.0, 33.0, 40.0),
    )


def tensor_range(name: str, outlier: float) -> TensorRange:
    """Make a bell curve with a single value far out."""
    index = np.arange(-200, 201)
    counts = np.rint(1e4 * np.exp(-((index / 20.0) ** 2))).astype(np.int64)
    counts[-1] = 1
    return TensorRange(name, -2.0, 4.0 * outlier, -outlier, outlier, 0.02, counts, "mse")


VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass
class Page(HTMLParser):
    """A page, read strictly: every element that is opened is closed, in order."""

    text: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)
        self.feed(self.text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def visible(self) -> str:
        """All text, runs of spaces as one."""
        return re.sub(r"\s+", " ", " ".join(self.words))

    def rows(self) -> list[list[str]]:
        """Return the cells of every table row."""
        found = re.findall(r"<tr>(.*?)</tr>", self.text, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in found]
        return [[cell.strip() for cell in row] for row in cells]

    def pictures(self, media_type: str) -> list[bytes]:
        """Return the bytes of every embedded picture of a type."""
        start = f"data:{media_type};base64,"
        sources = [attrs.get("src") or "" for tag, attrs in self.elements if tag == "img"]
        return [base64.b64decode(s.removeprefix(start)) for s in sources if s.startswith(start)]
