# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What terminal, page and manifest say of a form that was chosen among compiled variants."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from helpers_report import EVIL, Page, build_report, digest

from av_compress.build.summary import build_summary
from av_compress.engines.manifest import Manifest
from av_compress.engines.variants import ChoiceRecord, VariantRecord
from av_compress.report.build_page import BuildReport, render_build_report
from av_compress.report.variants import (
    choice_words,
    convolution_table,
    int8_loses,
    target_words,
    variant_table,
)


def variant(
    name: str, activations: int | None, kernels: int | None, verdict: str, **others
) -> VariantRecord:
    made = activations is not None
    kind = name.partition(",")[0]
    integers = {} if kind == "fp16" else {"int8": 12}
    values = {
        "candidate": kind,
        "weight_scales": "tensor" if "one scale" in name else "channel",
        "sha256": digest(name) if made else None,
        "constant_bytes": 500_000 if made else None,
        "achieved": {"fp16": 3, **integers} if made else {},
        "convolutions": {"fp16 x fp16 -> fp16": 3} if made else {},
        "loss": None,
        "reason": f"because {EVIL}",
    }
    return VariantRecord(
        name=name,
        kernels=kernels,
        activation_bytes=activations,
        verdict=verdict,
        **{**values, **others},
    )


FP16 = variant("fp16", 9_500_000, 101, "accepted", loss=-0.25)
ONE = variant("int8, one scale a weight", 11_250_000, 140, "skipped")
INT8 = variant("int8", 20_000_000, 139, "skipped", convolutions={"int8 x int8 -> fp32": 7})
NONE = variant("mixed", None, None, "skipped")


def choice(*variants: VariantRecord) -> ChoiceRecord:
    return ChoiceRecord("tensorrt_rtx", "1.7", ("8.9", "12.0"), "bytes_moved", 21, variants)


def with_choice(record: ChoiceRecord) -> BuildReport:
    report = build_report()
    tensorrt = replace(report.manifest.artefacts["tensorrt"], choice=record)
    artefacts = {**report.manifest.artefacts, "tensorrt": tensorrt}
    return replace(report, manifest=replace(report.manifest, artefacts=artefacts))


LOST = choice(FP16, ONE, INT8, NONE)


def test_int8_loses_where_all_of_it_costs_more_than_the_float_that_was_chosen():
    assert int8_loses(LOST)
    assert choice_words(LOST) == (
        "INT8 loses. fp16: 10.00 MB in 101 kernels; int8, one scale a weight 11.75 MB in 140 "
        "kernels; int8 20.50 MB in 139 kernels"
    )
    cheaper = replace(ONE, activation_bytes=9_000_000, verdict="refused", loss=3.0)
    # It costs less, and was refused for its accuracy.
    assert not int8_loses(choice(cheaper, FP16, INT8))
    won = replace(cheaper, verdict="accepted", loss=0.5)
    assert not int8_loses(choice(won, replace(FP16, verdict="skipped")))
    # Nothing in INT8 was compiled: there was nothing to lose.
    assert not int8_loses(choice(FP16, NONE))
    refused = choice(replace(FP16, verdict="refused"), INT8)
    assert not int8_loses(refused)
    assert choice_words(refused) == "no variant holds every limit"


def test_what_compiled_is_named():
    assert target_words(LOST) == (
        "tensorrt_rtx 1.7 for compute capability 8.9, 12.0, chosen by bytes moved; 21 trials for "
        "the mixed plan"
    )
    plain = replace(LOST, capabilities=(), trials=0, choose_by="kernels")
    assert target_words(plain) == "tensorrt_rtx 1.7, chosen by kernels"


def test_the_tables_hold_the_numbers():
    rows = variant_table(LOST).text().splitlines()
    assert rows[2].split() == [
        *("fp16", "3", "fp16", "accepted", "because", *EVIL.split()),
        *("101", "9.50", "0.50", "10.00", "-0.25"),
    ]
    assert "12 int8, 3 fp16" in rows[3]
    assert rows[-1].split()[-5:] == ["-"] * 5
    kinds = convolution_table(LOST)
    assert [len(row) for row in kinds.rows] == [4, 4]
    assert list(kinds.rows[1]) == ["int8 x int8 -> fp32", "–", "–", "7"]


def test_the_page_shows_it_and_escapes_it():
    page = Page(render_build_report(with_choice(LOST)))
    assert "What the compiler makes of it" in page.visible
    assert "INT8 loses on this compiler" in page.visible
    assert EVIL in page.visible
    assert EVIL not in page.text
    (shown,) = [row for row in page.rows() if row[0] == "int8, one scale a weight"]
    assert shown[4:8] == ["140", "11.25", "0.50", "11.75"]
    alts = [attributes.get("alt") or "" for _, attributes in page.elements]
    assert any(alt.startswith("Bytes moved for a frame. fp16: 10.00 MB") for alt in alts)
    # What was not compiled is no bar.
    assert not any("mixed: " in alt for alt in alts if alt.startswith("Bytes moved"))


def test_a_build_that_compiled_nothing_says_nothing_of_it():
    page = Page(render_build_report(build_report()))
    assert "What the compiler makes of it" not in page.visible


def test_the_terminal_says_loudly_that_int8_loses():
    task = {"kind": "camera_detection", "class_names": ["car"]}
    chosen, plain = (replace(r.manifest, task=task) for r in (with_choice(LOST), build_report()))
    text = build_summary(chosen)
    assert "*** INT8 LOSES: FLOAT COSTS LESS ***" in text
    assert "fp16: 10.00 MB in 101 kernels (3 fp16), accepted, lost -0.25: because" in text
    assert "mixed: skipped: because" in text
    assert "INT8 LOSES" not in build_summary(plain)


def test_a_choice_survives_the_manifest():
    assert ChoiceRecord.from_json(asdict(LOST)) == LOST
    text = with_choice(LOST).manifest.to_json()
    assert Manifest.from_json(text).artefacts["tensorrt"].choice == LOST


@pytest.mark.parametrize("parts", [(None, None), (5, 7)])
def test_bytes_moved_are_both_parts_or_unknown(parts):
    one = replace(FP16, activation_bytes=parts[0], constant_bytes=parts[1])
    assert one.bytes_moved == (None if parts[0] is None else 12)
