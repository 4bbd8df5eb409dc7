# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles of every form: built, judged, loaded and run."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from test_build import recipe, world  # noqa: F401

from av_compress.cli.main import main
from av_compress.compress.emit.builder_half import fp32_nodes
from av_compress.compress.lint.lint import broken, lint_model
from av_compress.data.folder import ImageFolder
from av_compress.engines.bundle import load_bundle
from av_compress.engines.forms import FORMS
from av_compress.engines.onnxruntime import CUDA, OrtOptions
from av_compress.metrics.average_precision import average_precision_against


@pytest.fixture(scope="module")
def bundle(world: Path) -> Path:
    path = recipe(world, "kinds.yaml", emitters=list(FORMS))
    assert main(["build", str(path), "--output", str(world / "kinds")]) == 0
    return world / "kinds"


def test_every_form_is_in_the_bundle_and_says_what_it_computes_in(bundle: Path):
    artefacts = load_bundle(bundle).manifest.artefacts
    assert set(artefacts) == set(FORMS)
    kinds = {name: {n.precision for n in record.nodes} for name, record in artefacts.items()}
    assert kinds["tensorrt"] == {"int8", "fp16"}
    assert kinds["tensorrt_8"] == {"int8", "fp16"}
    assert kinds["tensorrt_fp8"] == {"fp8", "fp16"}
    assert kinds["weight_only"] == {"int8_weights"}
    # The demo's detector has convolutions alone.
    assert kinds["cpu_dynamic"] == {"fp32"}
    shares = {name: record.int8_mac_share for name, record in artefacts.items()}
    assert shares["tensorrt"] == shares["tensorrt_8"] == shares["cpu"] > 0.5
    assert shares["cpu_dynamic"] == shares["weight_only"] == shares["tensorrt_fp8"] == 0
    assert all(record.gate.passed for record in artefacts.values())


def test_the_form_for_tensorrt_8_keeps_its_rules(bundle: Path, capsys):
    path = load_bundle(bundle).artefact("tensorrt_8")
    assert main(["lint", str(path), "--target", "tensorrt-8.6"]) == 0
    assert "0 errors, 0 traps" in capsys.readouterr().out
    assert fp32_nodes(onnx.load(path)) is not None


@pytest.mark.parametrize("form", FORMS)
def test_every_form_sees_what_fp32_sees(bundle: Path, world: Path, form: str):
    loaded = load_bundle(bundle)
    images = ImageFolder(world / "gate")
    frames = [images.read(index) for index in range(4)]
    found = {}
    for name in (form, "cpu_dynamic"):
        pipeline = loaded.open_pipeline(options=OrtOptions(intra_op_threads=1), emitter=name)
        found[name] = [pipeline.process(frame).result for frame in frames]
        pipeline.close()
    # Without a product to quantise, the dynamic form is the FP32 model.
    names = loaded.task().class_names
    assert (
        average_precision_against(found["cpu_dynamic"], found[form], class_names=names).ap50 > 0.7
    )


def test_the_report_shows_every_form(bundle: Path):
    text = (bundle / "report.html").read_text()
    assert all(f"{form} form" in text for form in FORMS)


def test_the_best_form_for_a_provider_is_chosen(bundle: Path):
    loaded = load_bundle(bundle)
    assert loaded.default_emitter(OrtOptions()) == "cpu"
    assert loaded.default_emitter(OrtOptions(providers=(CUDA,))) == "tensorrt"


@pytest.mark.parametrize("candidate", ["fp16", "fp32"])
def test_every_candidate_for_tensorrt_8_has_its_opset(world: Path, tmp_path: Path, candidate):
    path = recipe(world, "eight.yaml", candidates=[candidate], emitters=["tensorrt_8"])
    assert main(["build", str(path), "--output", str(tmp_path / "eight")]) == 0
    loaded = load_bundle(tmp_path / "eight")
    assert {node.precision for node in loaded.record("tensorrt_8").nodes} == {candidate}
    written = onnx.load(loaded.artefact("tensorrt_8"))
    assert written.opset_import[0].version == 17
    assert (fp32_nodes(written) is None) == (candidate == "fp32")
    assert not broken(lint_model(written, "tensorrt-8.6"))


def test_fp16_alone_needs_no_node_in_int8(world: Path, tmp_path: Path):
    path = recipe(world, "fp16.yaml", precision={"exclude": ["*"]}, emitters=["tensorrt"])
    assert main(["build", str(path), "--output", str(tmp_path / "fp16")]) == 0
    loaded = load_bundle(tmp_path / "fp16")
    record = loaded.record("tensorrt")
    assert {node.precision for node in record.nodes} == {"fp16"}
    assert record.bytes < 0.6 * loaded.manifest.source.bytes
    graph = onnx.load(loaded.artefact("tensorrt")).graph
    assert not any("Quantize" in node.op_type for node in graph.node)
