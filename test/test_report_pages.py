# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Pages: well-formed, self-contained, deterministic, and with the numbers of their results."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from helpers_report import (
    CLASSES,
    EVIL,
    SHA,
    Page,
    build_report,
    fallen_back,
    frame_record,
    refused,
    replay_result,
)

from av_compress.engines.manifest import NodeRecord
from av_compress.errors import AvCompressError
from av_compress.metrics.agreement import compare_frame, summarise
from av_compress.metrics.replay import GateOutcome
from av_compress.report.build_page import BuildReport, render_build_report, write_build_report
from av_compress.report.replay_page import (
    class_table,
    render_replay_report,
    replay_table,
    write_replay_report,
)
from av_compress.report.tables import plain
from av_compress.tasks.base import Detections2D

MATCHED = GateOutcome("matched", 0.75, 0.95, "min")
FAST = GateOutcome("p99_ms", 14.0, 100.0, "max")
PAGES = {
    "replay": lambda: render_replay_report(replay_result(gates=(MATCHED, FAST), bad=25)),
    "replay without a reference": lambda: render_replay_report(replay_result(reference=False)),
    "replay of one frame": lambda: render_replay_report(replay_result(frames=1)),
    "replay that agrees": lambda: render_replay_report(replay_result(worst=0)),
    "long replay": lambda: render_replay_report(replay_result(frames=500)),
    "build": lambda: render_build_report(build_report()),
    "refused build": lambda: render_build_report(refused()),
    "build that fell back": lambda: render_build_report(fallen_back()),
    "build without a gate": lambda: render_build_report(ungated()),
}


def ungated() -> BuildReport:
    report = build_report()
    artefacts = {k: replace(a, gate=None) for k, a in report.manifest.artefacts.items()}
    return BuildReport(replace(report.manifest, artefacts=artefacts))


@pytest.fixture(scope="module", params=PAGES)
def page(request) -> Page:
    return Page(PAGES[request.param]())


def test_a_page_needs_nothing_but_itself(page):
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            # Data, or a place on the same page.
            assert re.match("data:|#", attributes.get(name) or "data:"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert "://" not in page.text
    assert not re.search(r"@import|url\(", page.text)


def test_every_plot_is_an_svg_without_links_and_dates(page):
    plots = page.pictures("image/svg+xml")
    assert plots
    for plot in plots:
        root = ElementTree.fromstring(plot)
        assert root.tag.endswith("}svg")
        for element in root.iter():
            assert element.tag.rpartition("}")[2] not in {"script", "image", "metadata"}
            for name, value in element.attrib.items():
                if name.endswith("href"):
                    assert value.startswith("#")
        assert not re.search(rb"20\d\d-\d\d-\d\d", plot)


def test_plots_set_names_as_text_in_any_script():
    plots = Page(render_build_report(build_report())).pictures("image/svg+xml")
    assert any(CLASSES[3] in "".join(ElementTree.fromstring(p).itertext()) for p in plots)


def test_every_picture_says_what_it_shows(page):
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert all(len(attributes["alt"] or "") > 15 for attributes in pictures)


def test_names_are_escaped(page):
    assert "<script" not in page.text
    assert EVIL in page.visible


def test_a_page_says_its_title_and_language(page):
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == tags.count("title") == tags.count("main") == 1
    assert dict(page.elements[0:1])["html"]["lang"] == "en"
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def digest_of_pages() -> str:
    pages = PAGES["replay"]() + PAGES["build"]()
    return hashlib.sha256(pages.encode()).hexdigest()


def test_equal_results_give_equal_bytes_in_another_process_under_other_settings():
    with mpl.rc_context({"font.size": 20.0, "svg.fonttype": "path", "axes.grid": False}):
        here = digest_of_pages()
    there = subprocess.run(
        [sys.executable, "-c", "import test_report_pages as t; print(t.digest_of_pages())"],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert there.stdout.strip() == here, there.stderr[-2000:]


def test_plotting_leaves_the_settings_of_others_alone():
    before = dict(mpl.rcParams)
    render_replay_report(replay_result(frames=2))
    assert dict(mpl.rcParams) == before


def test_a_failed_replay_says_so_first_and_why():
    page = Page(render_replay_report(replay_result(gates=(MATCHED, FAST))))
    text = page.visible
    assert "Failed Reference's boxes found again: 75.00 %, must be at least 95.00 %." in text
    assert text.index("Failed") < text.index("Agreement") < text.index("Latency")
    found = {row[0]: row[1:] for row in page.rows()}
    assert found["99th percentile of the total time"] == ["passed", "14.0 ms", "at most 100 ms"]
    assert "FAILED" in found["reference&#39;s boxes found again"]


@pytest.mark.parametrize(
    ("gates", "word"), [((FAST,), "Passed"), ((), "Not judged"), ((MATCHED,), "Failed")]
)
def test_the_verdict_is_that_of_the_gates(gates, word):
    page = Page(render_replay_report(replay_result(gates=gates)))
    assert [word in page.visible for word in ("Passed", "Not judged", "Failed")] == [
        word == other for other in ("Passed", "Not judged", "Failed")
    ]


def test_the_tables_of_a_replay_hold_its_numbers():
    # Frames 0 to 11: the car always matches; the person in the odd ones; a false alarm in 0, 5
    # and 10 as car, person and third class.
    result = replay_result()
    found = {row[0]: list(map(plain, row[1:])) for row in class_table(result.agreement).rows}
    assert found["car"][:4] == ["12", "0", "1", "100.0 %"]
    assert found["person & dog"] == ["6", "6", "1", "50.0 %", "1.000", "+0.020", "0.020"]
    text = replay_table(result)
    assert text.splitlines()[0].endswith("12 frames, all usable")
    total = next(line for line in text.splitlines() if line.startswith("total  "))
    # Totals are 10.75 ms and 0.01 ms per frame and 0.04 ms times ((7 * frame) % 13).
    totals = [10.75 + 0.01 * i + 0.04 * ((7 * i) % 13) for i in range(12)]
    assert float(total.split()[1]) == pytest.approx(np.mean(totals), abs=0.06)
    assert float(total.split()[5]) == pytest.approx(max(totals), abs=0.06)
    assert "total of the reference" in text


def test_the_table_of_a_replay_without_reference_has_latencies_alone():
    text = replay_table(replay_result(reference=False, gates=(FAST,)))
    assert "matched" not in text
    assert "reference" not in text
    assert "p99" in text
    assert "passed" in text


def test_classes_are_listed_most_boxes_first():
    names = [row[0] for row in class_table(replay_result().agreement).rows]
    assert names == ["car", "person & dog", EVIL]


def test_a_result_without_any_box_is_reported_as_such():
    nothing = Detections2D.empty()
    agreement = compare_frame(nothing, nothing)
    result = replace(
        replay_result(),
        frames=(replace(frame_record(0, True), result=nothing, agreement=agreement),),
        agreement=summarise([agreement], CLASSES),
        worst=(),
    )
    page = Page(render_replay_report(result))
    assert "The two models agree in every frame" in page.visible
    assert ["all classes", "0", "0", "0", "–", "–", "–", "–"] in page.rows()
    assert "nan" not in page.visible.lower()


def test_unusable_frames_are_listed_up_to_a_limit():
    page = Page(render_replay_report(replay_result(bad=25)))
    assert "25 of the recorded frames could not be used; the first 20" in page.visible
    assert sum(row[0] == str(12 + i) for i in range(25) for row in page.rows()) == 20


def test_worst_frames_are_embedded_side_by_side():
    page = Page(render_replay_report(replay_result(worst=2)))
    pictures = page.pictures("image/jpeg")
    assert len(pictures) == 4
    shapes = {cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_COLOR).shape for p in pictures}
    # 160 x 120 pixels at the width of the page's pictures.
    assert shapes == {(540, 720, 3)}


def test_a_long_replay_stays_a_small_page():
    short, long = (render_replay_report(replay_result(frames=n, worst=0)) for n in (200, 3000))
    assert len(long) < 1.5 * len(short)


def test_a_build_within_its_limit_is_accepted():
    page = Page(render_build_report(build_report()))
    assert "Accepted Every form passes with its first candidate." in page.visible
    # A space that does not break stands between a figure and its unit.
    text = page.visible.replace("\u00a0", " ")
    assert (
        "cpu form, INT8: 98.5 % of FP32’s AP50 on labels kept, 75.0 % of the arithmetic in INT8, "
        "1.50 times as fast as FP32, 38 % of the source’s size." in text
    )
    assert (
        "tensorrt form, INT8: 99.0 % of FP32’s AP50 on labels kept, 75.0 % of the arithmetic in "
        "INT8, 57 % of the source’s size." in text
    )
    assert "not measured here: needs the device" in text
    rows = page.rows()
    assert ["cpu form, INT8", "accuracy", "passed", "lost 0.75 of AP50"] in rows
    assert [
        "cpu form, INT8",
        "speed",
        "passed",
        "1.50 times as fast as fp32 (20.00 ms against 30.00 ms, the shortest of 30 rounds), "
        "must be 1.00",
    ] in rows


def test_a_refused_build_names_the_nearest_and_what_it_fails():
    page = Page(render_build_report(refused()))
    text = page.visible
    assert "Refused No candidate of the cpu form holds every limit; no bundle was written." in text
    assert (
        "cpu form: nearest is int8, which fails accuracy (lost 10.00 of AP50); on accuracy fp32 "
        "comes closer (lost 0.00 of AP50), but fails size (1048576 bytes)." in text
    )
    assert "refused; nearest: INT8" in text
    assert "Accepted" not in text


def test_a_build_that_fell_back_says_so_first():
    page = Page(render_build_report(fallen_back()))
    text = page.visible
    assert (
        "Accepted, but not as wanted The cpu form fell back to FP32: INT8 was refused (lost 10.00 "
        "of AP50)." in text
    )
    assert text.index("fell back") < text.index("What was tried")
    rows = page.rows()
    first = rows.index(next(row for row in rows if row[0] == "form"))
    tried = [row[1:3] for row in rows[first + 1 : first + 5]]
    assert tried == [
        ["INT8", "refused"],
        ["mixed", "refused"],
        ["FP16", "skipped"],
        ["FP32", "accepted"],
    ]
    assert ["conv_1", "FP32", "3", "12.5", "25 M"] in rows
    words = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    assert any("Candidates: INT8 10.00, mixed 2.00, FP32 0.00." in (alt or "") for alt in words)
    assert any("each of 3 nodes when it alone is INT8" in (alt or "") for alt in words)


def test_measured_reasons_are_one_row():
    report = build_report()
    nodes = tuple(
        NodeRecord(f"conv_{i}", "Conv", "fp16", f"spared: costs {i}.5e-03 points; scales moved")
        for i in range(200)
    )
    tensorrt = replace(report.manifest.artefacts["tensorrt"], nodes=nodes)
    report = replace(
        report,
        manifest=replace(report.manifest, artefacts={"tensorrt": tensorrt}),
        accuracy={},
        macs={node.node: 10 for node in nodes},
    )
    page = Page(render_build_report(report))
    row = ["tensorrt form", "FP16", "spared: costs … points", "200", "100.0 %"]
    assert [found for found in page.rows() if found[0] == "tensorrt form" and len(found) == 5] == [
        row
    ]
    # All of them stand behind a fold, each with its own.
    assert "conv_123" in page.text
    assert "spared: costs 123.5e-03 points; scales moved" in page.text


def test_links_of_a_page_lead_to_its_parts(page):
    targets = [(a.get("href") or "")[1:] for tag, a in page.elements if tag == "a"]
    named = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(named)) == len(named)
    assert set(targets) <= set(named)


def test_a_build_without_a_gate_says_that_nothing_was_measured():
    page = Page(PAGES["build without a gate"]())
    assert "Not judged" in page.visible
    assert "nothing was measured" in page.visible
    assert "Accepted" not in page.visible


def test_the_tables_of_a_build_hold_its_numbers():
    page = Page(render_build_report(build_report()))
    rows = page.rows()
    assert ["FP32", "50.00", "25.00", "83.33", "41.67"] in rows
    assert ["tensorrt form", "49.50", "24.75", "82.50", "41.25"] in rows
    assert ["car", "10", "50.00", "49.25", "−0.75", "49.50", "−0.50"] in rows
    assert ["FP32", "detector.onnx", "1.00 MiB", "100 %"] in rows
    assert ["cpu form, INT8", "cpu/model.onnx", "391 KiB", "38 %"] in rows
    assert ["tensorrt form, INT8", "tensorrt/model.onnx", "586 KiB", "57 %"] in rows
    times = ["20.0 (21.0–23.0)", "30.0 (31.0–40.0)", "1.50 ×", "30", "1"]
    assert ["cpu form", "INT8", "FP32", *times] in rows
    assert ["tensorrt form", "INT8", "because", "2", "75.0 %"] in rows
    assert ["cpu form", "FP32", "because", "1", "25.0 %"] in rows
    assert ["conv_3", "Conv", "INT8", "INT8", "because", "25 M", "25.0 %"] in rows
    assert ["simplify", "removed 2 Identity", "9", "7", "–", "–", "–"] in rows
    assert ["check", "nothing to do", "9", "9", "–", "–", "–"] in rows
    assert ["onnx", "1.2.3"] in rows
    assert ["recipe", "detector &lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;", SHA] in rows


@pytest.mark.parametrize(
    ("deviation", "words"),
    [
        (1.25e-5, "differs from the source by at most 1e−05 of the largest output."),
        (0.0, "the prepared model computes exactly what the source does."),
        (None, ""),
    ],
)
def test_a_build_tells_how_far_the_prepared_model_deviates(deviation, words):
    text = Page(render_build_report(replace(build_report(), deviation=deviation))).visible
    assert words in text
    assert ("the prepared model" in text) == (deviation is not None)


def test_the_worst_represented_tensor_comes_first():
    rows = Page(render_build_report(build_report())).rows()
    listed = [row[0] for row in rows if len(row) == 7 and row[1] == "−2"]
    # The wider the range, the coarser its steps; the narrowest clips a part of the bell curve.
    assert listed[:3] == ["conv_3", "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;", "conv_1"]


def test_pages_are_written_where_they_are_asked_for(tmp_path):
    path = write_replay_report(replay_result(frames=2), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html"
    assert path.read_text(encoding="utf-8") == render_replay_report(replay_result(frames=2))
    write_build_report(build_report(), tmp_path / "build.html")
    assert Page((tmp_path / "build.html").read_text(encoding="utf-8"))


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(AvCompressError, match="cannot write"):
        write_replay_report(replay_result(frames=1), tmp_path / "file" / "below")
