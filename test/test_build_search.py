# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Sensitivities and searches of whole recipes: the verb, plans fed back, searches that go on."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import onnx
import pytest
import yaml
from helpers_report import Page
from test_build import recipe, with_depthwise, world

from av_compress.build.recipe import load_recipe
from av_compress.build.search import Searcher
from av_compress.build.sensitivity import measure, open_searcher, plan_yaml
from av_compress.cli.main import main
from av_compress.compress.search.journal import Journal
from av_compress.engines.bundle import load_bundle

__all__ = ["world"]

GATE = {"metric": "agreement_ap", "max_loss": 3, "samples": 6}
SEARCH = {"evaluations": 5, "frames": 2, "min_int8_share": 0.9}


@pytest.fixture(scope="module")
def path(world: Path) -> Path:
    onnx.save(with_depthwise(onnx.load(world / "detector.onnx")), world / "wide.onnx")
    return recipe(
        world,
        "sensitivity.yaml",
        model="wide.onnx",
        gate=GATE,
        search=SEARCH,
        emitters=["tensorrt"],
        candidates=["mixed"],
    )


def test_the_verb_prints_ranks_and_writes_a_plan(path: Path, tmp_path: Path, capsys):
    plan, figures = tmp_path / "plan.yaml", tmp_path / "figures.json"
    wanted = ["sensitivity", str(path), "--no-cache", "--plan", str(plan), "--json", str(figures)]
    assert main(wanted) == 0
    printed = capsys.readouterr().out
    assert "depthwise" in printed
    assert "dB" in printed
    rows = json.loads(figures.read_text())
    prices = [(row["shift"] ** 2 / row["macs"], row["error"] / row["macs"]) for row in rows]
    assert prices == sorted(prices, reverse=True)
    section = yaml.safe_load(plan.read_text())
    # Every weighted node is named once; what was measured and what was planned agree.
    assert {row["node"] for row in rows} <= {entry["match"] for entry in section["nodes"]}
    total = sum(row["macs"] for row in rows)
    kept = {e["match"] for e in section["nodes"] if e["precision"] == "int8"}
    assert sum(row["macs"] for row in rows if row["node"] in kept) >= 0.9 * total


def test_a_plan_is_edited_and_fed_back(path: Path, world: Path, tmp_path: Path):
    names = [n.name for n in onnx.load(world / "wide.onnx").graph.node if n.op_type == "Conv"]
    plan = {
        "migrate": True,
        "nodes": [
            {"match": "depthwise", "precision": "int8", "reason": "tried"},
            {"match": names[-1], "precision": "fp32"},
            {"match": "*", "precision": "fp16"},
        ],
    }
    (world / "plan.yaml").write_text(yaml.safe_dump(plan))
    fed = recipe(
        world,
        "fed.yaml",
        model="wide.onnx",
        precision="plan.yaml",
        gate={**GATE, "max_loss": 100},
        emitters=["tensorrt"],
        candidates=["int8", "mixed"],
    )
    assert main(["build", str(fed), "--output", str(tmp_path / "fed")]) == 0
    nodes = load_bundle(tmp_path / "fed").manifest.artefacts["tensorrt"].nodes
    precisions = {node.node: node.precision for node in nodes}
    assert [n for n, p in precisions.items() if p == "int8"] == ["depthwise"]
    assert precisions[names[-1]] == "fp32"
    assert all("named by the recipe" in node.reason for node in nodes)


def test_a_plan_fed_back_is_the_plan_that_was_measured(path: Path, world: Path):
    """Every rule of the recipe survives, and which nodes keep the migration of their channels."""
    rules = {"round": False, "unify_concat": True, "exclude": ["/heads.1/*"], "gemv": False}
    content = {**yaml.safe_load(path.read_text()), "precision": rules}
    (world / "measured.yaml").write_text(yaml.safe_dump(content))
    measured = load_recipe(world / "measured.yaml")
    found = measure(measured, "tensorrt", Journal(), search=True)
    (world / "found.yaml").write_text(plan_yaml(found))
    again = {**content, "precision": "found.yaml", "search": None, "candidates": ["int8"]}
    (world / "again.yaml").write_text(yaml.safe_dump(again))
    fed = load_recipe(world / "again.yaml")
    section = dict(fed.precision)
    nodes = section.pop("nodes")
    assert section == {"base": "fp16", **measured.precision}
    assert section["migrate"]
    with ExitStack() as stack:
        basis = open_searcher(fed, "tensorrt", Journal(), stack).basis
    assert {n.node: n.precision for n in basis.plan.nodes} == {
        n.node: n.precision for n in found.plan.nodes
    }
    inside = found.plan.quantised()
    assert set(basis.choices) == inside - found.unmigrated
    plain = {entry["match"] for entry in nodes if not entry.get("migrate", True)}
    assert plain == found.unmigrated
    assert plain < inside


def test_a_plan_of_the_cpu_form_leaves_the_others_their_base(path: Path, world: Path):
    content = {**yaml.safe_load(path.read_text()), "emitters": ["cpu"]}
    content["precision"] = {"migrate": False, "depthwise": True}
    (world / "cpu.yaml").write_text(yaml.safe_dump(content))
    found = measure(load_recipe(world / "cpu.yaml"), "cpu", Journal(), search=False)
    section = yaml.safe_load(plan_yaml(found))
    assert section["base"] == "fp16"
    assert {entry["precision"] for entry in section["nodes"]} <= {"int8", "fp16"}
    assert all("migrate" not in entry for entry in section["nodes"])


def test_the_verb_judges_frames_without_labels_as_a_build_does(world: Path, path: Path, capsys):
    unlabelled = recipe(
        world,
        "unlabelled_search.yaml",
        calibration={"source": {"type": "images", "path": "calibration"}, "samples": 3},
        gate={"metric": "ap50", "max_loss": 50},
        precision={"round": False, "migrate": False},
        search={"evaluations": 1, "frames": 1},
        emitters=["tensorrt"],
    )
    assert main(["sensitivity", str(unlabelled)]) == 0
    capsys.readouterr()
    # What was observed is kept, as a build keeps it.
    assert main(["sensitivity", str(unlabelled)]) == 0
    assert "were observed earlier" in capsys.readouterr().out


def test_a_pattern_that_names_nothing_is_refused(path: Path, world: Path, tmp_path: Path, capsys):
    wrong = {"nodes": [{"match": "/no/such/*", "precision": "int8"}]}
    bad = recipe(world, "bad.yaml", precision=wrong)
    assert main(["build", str(bad), "--output", str(tmp_path / "bad")]) == 2
    error = capsys.readouterr().err
    assert "precision.nodes: '/no/such/*' matches no weighted node" in error


def test_a_killed_search_goes_on_where_it_was(path: Path, tmp_path: Path, monkeypatch):
    file = tmp_path / "search.jsonl"
    whole = measure(load_recipe(path), "tensorrt", Journal(), search=True)
    original, calls = Searcher.loss, []

    def killed(self, plan):
        calls.append(original(self, plan))
        raise KeyboardInterrupt

    monkeypatch.setattr(Searcher, "loss", killed)
    with pytest.raises(KeyboardInterrupt):
        measure(load_recipe(path), "tensorrt", Journal(file), search=True)
    monkeypatch.setattr(Searcher, "loss", original)
    journal = Journal(file)
    again = measure(load_recipe(path), "tensorrt", journal, search=True)
    # All sensitivities, with and without migration, and the plan that was evaluated.
    assert journal.recalled > len(again.ranking)
    assert again == whole


def test_the_verb_says_what_it_needs(path: Path, world: Path, capsys):
    assert main(["sensitivity", str(path), "--no-cache", "--emitter", "cpu"]) == 2
    assert "allowed: tensorrt" in capsys.readouterr().err
    ungated = recipe(world, "ungated.yaml", gate=None)
    assert main(["sensitivity", str(ungated), "--no-cache"]) == 2
    assert "need a gate" in capsys.readouterr().err


def test_the_report_shows_the_ranges_of_what_the_form_holds(
    path: Path, world: Path, tmp_path: Path
):
    """Channels were observed as they are and centred: one of the two is in the form."""
    whole = recipe(
        world,
        "ranges.yaml",
        model=path.with_name("wide.onnx").name,
        gate={"max_loss": 90},
        search=SEARCH,
        emitters=["tensorrt"],
        candidates=["int8", "mixed"],
    )
    assert main(["build", str(whole), "--output", str(tmp_path / "b")]) == 0
    model = onnx.load(tmp_path / "b" / "tensorrt" / "model.onnx")
    constants = {tensor.name for tensor in model.graph.initializer}
    held = {
        node.input[0].removesuffix("_fp16")
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants
    }
    rows = Page((tmp_path / "b" / "report.html").read_text(encoding="utf-8")).rows()
    shown = {row[0] for row in rows if len(row) == 7 and row[5] in {"mse", "held out"}}
    assert any(name.endswith("_migrated") for name in shown)
    assert shown == held
