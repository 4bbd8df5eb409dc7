# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The fall-back order in whole builds: what is tried, what is accepted, and what is said."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from helpers_report import Page
from test_build import build, coco, entries, recipe, world

from av_compress.build import candidates
from av_compress.build.candidates import Maker, Skipped
from av_compress.build.search import Searcher
from av_compress.cli.main import main
from av_compress.compress.plan.precision import PrecisionPlan
from av_compress.compress.search.journal import Journal
from av_compress.engines.bundle import load_bundle
from av_compress.engines.manifest import ArtefactRecord, Manifest
from av_compress.engines.measurements import load_measurements
from av_compress.errors import DataError

__all__ = ["world"]

# Nothing may be lost, and a search may try little: what is not FP32 fails.
STRICT = {"max_loss": 0, "metric": "agreement_ap", "samples": 6}
SEARCH = {"evaluations": 2, "frames": 1}


@pytest.fixture(scope="module")
def fallen(world: Path) -> Path:
    """Return a bundle whose forms had to fall back."""
    output = world / "bundles" / "fallen"
    path = recipe(world, "fallen.yaml", gate=STRICT, search=SEARCH)
    assert main(["build", str(path), "--output", str(output)]) == 0
    return output


def tried(record: ArtefactRecord) -> list[tuple[str, str]]:
    return [(attempt.candidate, attempt.verdict) for attempt in record.attempts]


def test_candidates_are_tried_in_order_until_one_passes(fallen: Path):
    artefacts = load_bundle(fallen).manifest.artefacts
    cpu, tensorrt = artefacts["cpu"], artefacts["tensorrt"]
    assert tried(cpu)[0] == ("int8", "refused")
    assert tried(cpu)[-2:] == [("fp16", "skipped"), ("fp32", "accepted")]
    assert cpu.attempts[-2].reason == "the cpu form has no FP16 kernels"
    assert tried(tensorrt)[0] == ("int8", "refused")
    assert tried(tensorrt)[-1][1] == "accepted"
    for record in (cpu, tensorrt):
        assert {c for c, _ in tried(record)[1:]} <= {"mixed", "fp16", "fp32"}
        assert record.fell_back
        assert not record.refused
        # With a limit of nothing, a second search would be the first one again; there still are
        # the coarse steps.
        mixed = [a.reason for a in record.attempts if a.candidate == "mixed"]
        assert sum("searched for a loss of" in reason for reason in mixed) == 1
        assert any("left in INT8" in reason for reason in mixed) or not record.fell_back


def test_what_was_accepted_is_what_is_written(fallen: Path):
    cpu = load_bundle(fallen).manifest.artefacts["cpu"]
    model = onnx.load(fallen / "cpu/model.onnx")
    assert not [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert cpu.int8_mac_share == 0.0
    assert {node.precision for node in cpu.nodes} == {"fp32"}
    assert cpu.gate.candidate == cpu.gate.reference
    attempt = cpu.attempt
    assert (attempt.sha256, attempt.bytes) == (cpu.sha256, cpu.bytes)
    assert [(c.gate, c.figure, c.verdict) for c in attempt.checks] == [("accuracy", 0.0, "passed")]


def test_refused_candidates_keep_their_figures(fallen: Path):
    for record in load_bundle(fallen).manifest.artefacts.values():
        first = record.attempts[0]
        (check,) = first.checks
        assert check.figure > 0.0
        assert (check.limit, check.verdict) == (0.0, "failed")
        assert first.reason == check.reason
        # With a search, the rules let everything be INT8.
        assert 0.5 < first.int8_mac_share <= 1.0
        assert first.bytes > 0


def test_a_manifest_with_attempts_survives_the_file(fallen: Path):
    text = (fallen / "manifest.json").read_text()
    assert Manifest.from_json(text).to_json() == text


def test_times_lie_beside_the_manifest(fallen: Path):
    measurements = load_measurements(fallen)
    record = load_bundle(fallen).manifest.artefacts["cpu"]
    timed = measurements.of("cpu", record.attempts[0].sha256)
    assert (timed.candidate, timed.against) == ("int8", "fp32")
    assert {one.emitter for one in measurements.speed} == {"cpu"}
    assert "_ms" not in (fallen / "manifest.json").read_text()


def test_inspect_says_loudly_what_was_not_accepted(fallen: Path, capsys):
    assert main(["inspect", str(fallen)]) == 0
    text = capsys.readouterr().out
    assert "candidate: fp32  *** FELL BACK: INT8 WAS NOT ACCEPTED ***" in text
    assert "int8 refused: lost " in text
    assert "fp16 skipped: the cpu form has no FP16 kernels" in text
    assert main(["inspect", str(fallen), "--json"]) == 0
    attempts = json.loads(capsys.readouterr().out)["artefacts"]["cpu"]["attempts"]
    assert attempts[-1]["verdict"] == "accepted"


def test_the_report_says_it_first(fallen: Path):
    page = Page((fallen / "report.html").read_text())
    assert "Accepted, but not as wanted The cpu form fell back to FP32: INT8 was" in page.visible
    assert ["cpu form", "FP16", "skipped"] in [row[:3] for row in page.rows()]


def test_a_fallen_bundle_is_served(fallen: Path, world: Path, capsys):
    data = ["--data", str(world / "gate/annotations.json")]
    assert main(["evaluate", "--bundle", str(fallen), *data]) == 0
    assert main(["evaluate", "--bundle", str(fallen), "--emitter", "tensorrt", *data]) == 0


def only_cpu(world: Path, name: str, **changes) -> Path:
    return recipe(world, name, emitters=["cpu"], **changes)


def test_a_candidate_that_is_too_slow_is_refused(world: Path, tmp_path: Path, capsys):
    gate = {"max_loss": 30, "speed": {"min_speedup": 1e6, "rounds": 3}}
    path = only_cpu(world, "slow.yaml", gate=gate)
    assert main(["build", str(path), "--output", str(tmp_path / "slow")]) == 0
    assert "int8 refused: not 1000000.00 times as fast as fp32" in capsys.readouterr().out
    record = load_bundle(tmp_path / "slow").manifest.artefacts["cpu"]
    assert tried(record) == [
        ("int8", "refused"),
        # It lost no accuracy, so a search has nothing to win.
        ("mixed", "skipped"),
        ("fp16", "skipped"),
        ("fp32", "accepted"),
    ]
    speed = record.attempt.checks[-1]
    assert (speed.verdict, speed.reason) == ("not_judged", "there is no higher precision to beat")


def test_the_form_that_runs_elsewhere_is_not_judged_by_speed(world: Path, tmp_path: Path):
    gate = {"max_loss": 30, "speed": {"min_speedup": 1e6, "rounds": 3}}
    path = recipe(world, "device.yaml", gate=gate, emitters=["tensorrt"])
    assert main(["build", str(path), "--output", str(tmp_path / "device")]) == 0
    record = load_bundle(tmp_path / "device").manifest.artefacts["tensorrt"]
    assert tried(record) == [("int8", "accepted")]
    assert record.attempt.checks[-1].reason == "not measured here: needs the device"


def test_a_gate_that_nothing_satisfies_names_the_nearest(world: Path, tmp_path: Path, capsys):
    gate = {"max_loss": 30, "size": {"max_bytes": 1000}}
    path = only_cpu(world, "tiny.yaml", gate=gate)
    code, message = build(path, tmp_path / "tiny", capsys)
    assert code == 1
    assert "refused: cpu: no candidate holds every limit; nearest is int8, which fails size" in (
        message
    )
    assert len(message.strip().splitlines()) == 1
    assert entries(tmp_path) == ["tiny.refused.html"]
    page = Page((tmp_path / "tiny.refused.html").read_text())
    assert "No candidate of the cpu form holds every limit" in page.visible
    assert "refused; nearest: INT8" in page.visible


def test_a_class_that_loses_too_much_is_named(world: Path, tmp_path: Path, capsys):
    gate = {"max_loss": 100, "metric": "agreement_ap", "max_loss_per_class": 0, "min_truths": 1}
    path = only_cpu(world, "classes.yaml", gate=gate, candidates=["int8"])
    code, message = build(path, tmp_path / "classes", capsys)
    names = load_names(world)
    assert code == 1
    assert any(f"fails class (class {name} lost most: " in message for name in names), message


def load_names(world: Path) -> list[str]:
    categories = json.loads((world / "gate/annotations.json").read_text())["categories"]
    return [category["name"] for category in categories]


def test_a_search_aims_lower_where_the_gates_frames_lose_too_much(world: Path, tmp_path: Path):
    """What is searched on the calibration frames need not hold on the gate's."""
    rules = {"first": True, "prediction": True, "min_channels": 1}
    gate = {"metric": "agreement_ap", "max_loss": 1, "samples": 6}
    path = recipe(
        world,
        "aims.yaml",
        precision=rules,
        gate=gate,
        search=SEARCH,
        emitters=["tensorrt"],
        candidates=["int8", "mixed", "fp32"],
    )
    assert main(["build", str(path), "--output", str(tmp_path / "aims")]) == 0
    attempts = load_bundle(tmp_path / "aims").manifest.artefacts["tensorrt"].attempts
    mixed = [a.reason for a in attempts if a.candidate == "mixed"]
    aims = [reason.partition(":")[0] for reason in mixed if "searched for" in reason]
    expected = [f"searched for a loss of {aim}" for aim in ("1.00", "0.50", "0.25")]
    assert aims == expected[: len(aims)]
    assert aims


def test_calibration_without_labels_searches_by_agreement(world: Path, tmp_path: Path):
    path = recipe(
        world,
        "unlabelled.yaml",
        calibration={"source": {"type": "images", "path": "calibration"}},
        gate={"metric": "ap50", "max_loss": 0, "samples": 6},
        search=SEARCH,
        emitters=["tensorrt"],
        candidates=["mixed", "fp32"],
    )
    assert main(["build", str(path), "--output", str(tmp_path / "unlabelled")]) == 0
    record = load_bundle(tmp_path / "unlabelled").manifest.artefacts["tensorrt"]
    assert record.gate.metric == "ap50"
    assert record.attempts[0].reason.startswith("searched for a loss of 0.00: ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"candidates": ["fp16", "int8"]}, "candidates: [fp16, int8] is not allowed"),
        ({"candidates": []}, "candidates: [] is not allowed"),
        ({"candidates": ["int8"], "search": {}}, "search: finds the mixed candidate"),
        ({"candidates": ["mixed"], "gate": None}, "candidates: mixed: needs a gate"),
        ({"candidates": ["fp16"], "emitters": ["cpu"]}, "the cpu form has no FP16 kernels"),
        ({"gate": {"size": {}}}, "gate.size: {} is not allowed"),
        ({"gate": {"speed": {"min_speedup": 0}}}, "gate.speed.min_speedup: 0"),
        ({"gate": {"max_loss_per_class": -1}}, "gate.max_loss_per_class: -1"),
    ],
)
def test_wrong_wishes_are_one_line(world: Path, tmp_path: Path, capsys, changes, words):
    code, message = build(recipe(world, "wish.yaml", **changes), tmp_path / "bundle", capsys)
    assert (code, words in message) == (2, True), message
    assert len(message.strip().splitlines()) == 1
    assert entries(tmp_path) == []


def test_without_a_gate_the_first_candidate_is_taken(world: Path, tmp_path: Path, capsys):
    path = only_cpu(world, "ungated.yaml", gate=None)
    assert main(["build", str(path), "--output", str(tmp_path / "ungated")]) == 0
    record = load_bundle(tmp_path / "ungated").manifest.artefacts["cpu"]
    assert tried(record) == [("int8", "accepted")]
    assert record.attempt.reason == "taken as it is: the recipe has no gate"
    assert "FELL BACK" not in capsys.readouterr().out


def test_without_a_gate_what_cannot_be_made_is_still_skipped(world: Path, tmp_path: Path):
    path = only_cpu(world, "float_ungated.yaml", gate=None, precision={"exclude": ["*"]})
    assert main(["build", str(path), "--output", str(tmp_path / "float")]) == 0
    record = load_bundle(tmp_path / "float").manifest.artefacts["cpu"]
    assert tried(record)[-1] == ("fp32", "accepted")
    assert record.attempts[1].reason == "there is nothing to search by: the recipe has no gate"


def test_a_model_that_may_not_be_int8_starts_lower(world: Path, tmp_path: Path):
    path = recipe(world, "float.yaml", precision={"exclude": ["*"]}, gate={"source": coco("gate")})
    assert main(["build", str(path), "--output", str(tmp_path / "float")]) == 0
    artefacts = load_bundle(tmp_path / "float").manifest.artefacts
    assert [tried(artefacts[form])[-1] for form in ("cpu", "tensorrt")] == [
        ("fp32", "accepted"),
        ("fp16", "accepted"),
    ]
    assert tried(artefacts["cpu"])[0] == ("int8", "skipped")


def test_where_no_search_holds_the_dearest_are_spared_in_steps(world: Path, tmp_path: Path):
    """One evaluation is no search: it ends where it began, at INT8 that the gate refused."""
    path = recipe(
        world,
        "steps.yaml",
        gate={"max_loss": 0.01, "metric": "agreement_ap", "samples": 6},
        search={"evaluations": 1, "frames": 1},
        emitters=["tensorrt"],
    )
    assert main(["build", str(path), "--output", str(tmp_path / "steps")]) == 0
    record = load_bundle(tmp_path / "steps").manifest.artefacts["tensorrt"]
    steps = [a for a in record.attempts if "left in INT8" in a.reason]
    assert steps
    shares = [a.int8_mac_share for a in steps]
    assert shares == sorted(shares, reverse=True)
    limits = [float(a.reason.split(" % left")[0]) / 100 for a in steps]
    assert all(share >= limit - 1e-6 for share, limit in zip(shares, limits))
    if record.attempt.candidate == "mixed":
        spared = [n.reason for n in record.nodes if n.precision != "int8"]
        assert any("alone in INT8" in reason for reason in spared)


def test_the_last_step_spares_as_much_as_the_recipe_allows(world: Path, tmp_path: Path):
    path = recipe(
        world,
        "least.yaml",
        gate={"max_loss": 0.0, "metric": "agreement_ap", "samples": 6},
        search={"evaluations": 1, "frames": 1, "min_int8_share": 0.7},
        emitters=["tensorrt"],
    )
    assert main(["build", str(path), "--output", str(tmp_path / "steps")]) == 0
    record = load_bundle(tmp_path / "steps").manifest.artefacts["tensorrt"]
    steps = {a.reason.split(" % left")[0]: a for a in record.attempts if " % left" in a.reason}
    # No loss at all is allowed, which INT8 never holds.
    assert record.attempt.candidate == "fp16"
    assert list(steps) == ["90", "80", "70"]
    assert 0.7 <= steps["70"].int8_mac_share < steps["80"].int8_mac_share


def test_all_searches_of_a_form_share_one_budget(world: Path, tmp_path: Path, monkeypatch):
    evaluated = []
    original = Searcher._losses

    def counted(self: Searcher, plan: PrecisionPlan):
        evaluated.append(plan.quantised())
        return original(self, plan)

    monkeypatch.setattr(Searcher, "_losses", counted)
    path = recipe(
        world,
        "budget.yaml",
        gate={"max_loss": 0.5, "metric": "agreement_ap", "samples": 6},
        search={"evaluations": 4, "frames": 1},
        emitters=["tensorrt"],
    )
    assert main(["build", str(path), "--output", str(tmp_path / "b"), "--no-cache"]) == 0
    record = load_bundle(tmp_path / "b").manifest.artefacts["tensorrt"]
    searches = [a for a in record.attempts if "searched for a loss of" in a.reason]
    assert len(searches) > 1
    assert len(evaluated) <= 4


def test_a_search_minds_the_limit_of_a_single_class(world: Path, tmp_path: Path, monkeypatch):
    """Over all classes nothing is wrong here: the search would have stopped where it began."""
    steps = []
    original = Searcher.search

    def watched(self: Searcher, *args):
        found = original(self, *args)
        steps.append(found.search.steps)
        return found

    monkeypatch.setattr(Searcher, "search", watched)
    gate = {
        "metric": "agreement_ap",
        "max_loss": 60,
        "max_loss_per_class": 0.05,
        "min_truths": 1,
        "samples": 6,
    }
    path = recipe(
        world,
        "class_search.yaml",
        gate=gate,
        search={"evaluations": 6, "frames": 1},
        emitters=["tensorrt"],
    )
    assert main(["build", str(path), "--output", str(tmp_path / "b"), "--no-cache"]) == 0
    first = steps[0]
    assert len(first) > 1
    assert not first[0].passed
    # In points of the limit that holds over all classes.
    assert first[0].loss > 60


def test_frames_that_show_nothing_are_looked_at_once(monkeypatch):
    asked = []

    def nothing(*args):
        asked.append(args)
        raise DataError("nothing is seen")

    monkeypatch.setattr(candidates, "make_search_judge", nothing)
    recipe, samples = SimpleNamespace(gate=object()), SimpleNamespace(calibration=None)
    maker = Maker(recipe, None, {}, None, samples, None, Journal())
    why = Skipped("there is nothing to search by: nothing is seen")
    assert (maker._seen, maker._seen) == (why, why)
    assert len(asked) == 1
