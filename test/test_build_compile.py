# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Builds whose tensorrt form TensorRT for RTX really compiles, and that is chosen by it."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_report import Page
from helpers_trt import ADA, rtx
from test_build import build, entries, recipe, world
from trt_stand_in import make_module

from av_compress.build import accounts
from av_compress.build.accounts import open_compiler
from av_compress.build.compile import compile_bundle
from av_compress.build.plan_parts import account_of
from av_compress.build.recipe import CompileConfig, load_recipe
from av_compress.cli.main import main
from av_compress.compress.emit import tensorrt
from av_compress.engines.bundle import load_bundle
from av_compress.engines.manifest import ArtefactRecord, Manifest
from av_compress.engines.tensorrt.compile import compile_plan
from av_compress.engines.variants import ChoiceRecord, VariantRecord
from av_compress.errors import ConfigError, EngineError

__all__ = ["world"]

ON_ADA = {"capabilities": ["8.9"]}
EVERY = {"fp16", "fp32", "int8", "int8, one scale a weight", "mixed", "mixed, one scale a weight"}


def compiled_recipe(world: Path, name: str, **changes) -> Path:
    changes = {"emitters": ["tensorrt"], "compile": ON_ADA, **changes}
    return recipe(world, name, **changes)


def built(world: Path, output: Path, **changes) -> ArtefactRecord:
    path = compiled_recipe(world, f"{output.name}.yaml", **changes)
    assert main(["build", str(path), "--output", str(output)]) == 0
    return load_bundle(output).manifest.artefacts["tensorrt"]


def choice_of(record: ArtefactRecord) -> ChoiceRecord:
    assert record.choice is not None
    return record.choice


def by_name(record: ArtefactRecord) -> dict[str, VariantRecord]:
    return {one.name: one for one in choice_of(record).variants}


@pytest.fixture(scope="module")
def chosen(world: Path) -> Path:
    """Return a bundle whose form was chosen among all variants, none of which the gate refuses."""
    rtx()
    output = world / "bundles" / "chosen"
    built(world, output)
    return output


def test_the_cheapest_that_passes_is_taken(chosen: Path):
    record = load_bundle(chosen).manifest.artefacts["tensorrt"]
    choice = choice_of(record)
    assert {one.name for one in choice.variants} == EVERY
    moved = [one.bytes_moved for one in choice.variants]
    assert moved == sorted(moved)
    first = choice.variants[0]
    assert choice.chosen is first
    assert (first.sha256, first.candidate) == (record.sha256, record.attempts[0].candidate)
    assert [one.verdict for one in choice.variants[1:]] == ["skipped"] * 5
    assert all(one.loss is None for one in choice.variants[1:])
    assert first.loss == round(record.gate.reference - record.gate.candidate, 4)
    assert not record.fell_back
    # What the compiler does with the demo's detector: float is cheaper than INT8 throughout, and
    # a few nodes in INT8 are cheaper still.
    variants = by_name(record)
    assert variants["fp16"].bytes_moved < variants["int8, one scale a weight"].bytes_moved
    assert variants["int8, one scale a weight"].bytes_moved < variants["int8"].bytes_moved
    assert first.name == "mixed, one scale a weight"
    assert 0 < first.achieved["int8"] < variants["int8"].achieved["int8"]


def test_what_is_written_is_what_was_counted(chosen: Path):
    """Compiled anew, the artefact gives the account that its variant has."""
    loaded = load_bundle(chosen)
    record = loaded.manifest.artefacts["tensorrt"]
    model = onnx.load(loaded.artefact("tensorrt"))
    plan = compile_plan(rtx(), model.SerializeToString(), ADA)
    account = account_of(model, plan)
    variant = choice_of(record).chosen
    assert (account.kernels, account.bytes_moved) == (variant.kernels, variant.bytes_moved)
    assert Counter(node.achieved for node in account.nodes) == variant.achieved
    # And the plan that the vehicle gets is that of the same file.
    made = compile_bundle(loaded, "tensorrt_rtx", ADA, lambda label: None)
    assert made.account["bytes_moved"] == variant.bytes_moved
    planned = {node.node for node in record.nodes if node.precision == "int8"}
    assert planned == {n["node"] for n in made.account["nodes"] if n["achieved"] == "int8"}


def test_nodes_say_what_they_gain_or_cost_by_int8(chosen: Path):
    nodes = load_bundle(chosen).manifest.artefacts["tensorrt"].nodes
    for node in nodes:
        if node.precision == "int8":
            assert "with it alone in INT8 the plan moves" in node.reason
            assert " less, in " in node.reason
    dear = [n for n in nodes if n.precision != "int8" and "alone in INT8" in n.reason]
    assert dear
    assert all(" more, in " in node.reason for node in dear)


def test_one_scale_a_weight_is_what_the_file_holds(chosen: Path):
    model = onnx.load(chosen / "tensorrt/model.onnx")
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    made = {output: node for node in model.graph.node for output in node.output}
    weights = [
        made[node.input[1]]
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in made
    ]
    pairs = [node for node in weights if node.op_type == "DequantizeLinear"]
    assert pairs
    assert {values[pair.input[1]].shape for pair in pairs} == {()}


def test_the_manifest_says_what_compiled_and_survives_the_file(chosen: Path):
    text = (chosen / "manifest.json").read_text()
    manifest = Manifest.from_json(text)
    assert manifest.to_json() == text
    choice = choice_of(manifest.artefacts["tensorrt"])
    assert (choice.backend, choice.capabilities) == ("tensorrt_rtx", ("8.9",))
    assert choice.version == manifest.versions["tensorrt_rtx"] == rtx().__version__
    assert choice.trials > 5
    assert manifest.recipe["compile"] == {
        "backend": "tensorrt_rtx",
        "capabilities": ["8.9"],
        "choose_by": "bytes_moved",
        "trials": 128,
    }


def test_the_same_inputs_choose_the_same_bytes(world: Path, chosen: Path, tmp_path: Path):
    name = "chosen.yaml"
    assert main(["build", str(world / name), "--output", str(tmp_path / "again")]) == 0
    for file in ("manifest.json", "tensorrt/model.onnx"):
        assert (tmp_path / "again" / file).read_bytes() == (chosen / file).read_bytes()


def test_inspect_and_report_list_the_variants(chosen: Path, capsys):
    assert main(["inspect", str(chosen)]) == 0
    said = capsys.readouterr().out
    assert "for compute capability 8.9, chosen by bytes moved" in said
    page = Page((chosen / "report.html").read_text())
    rows = {row[0]: row for row in page.rows() if len(row) == 9}
    for one in choice_of(load_bundle(chosen).manifest.artefacts["tensorrt"]).variants:
        figures = f"{one.name}: {one.bytes_moved / 1e6:.2f} MB in {one.kernels} kernels"
        assert figures in said
        assert rows[one.name][4] == str(one.kernels)
        assert rows[one.name][7] == f"{one.bytes_moved / 1e6:.2f}"
    assert "not judged: mixed, one scale a weight costs less" in said
    assert "What the compiler makes of it" in page.visible
    assert ["int8 x int8 -&gt; fp32", "–", "–"] in [row[:3] for row in page.rows()]


def test_a_gate_that_refuses_the_cheapest_takes_the_next(world: Path, tmp_path: Path):
    """Nothing in INT8 holds this: float, the next in the order, does."""
    rtx()
    gate = {"metric": "agreement_ap", "max_loss": 2.5, "samples": 6}
    record = built(world, tmp_path / "second", gate=gate)
    first, second = choice_of(record).variants[:2]
    assert (first.candidate, first.verdict) == ("mixed", "refused")
    assert first.loss > 2.5 >= second.loss
    assert first.bytes_moved < second.bytes_moved
    assert (second.name, second.verdict) == ("fp16", "accepted")
    assert record.sha256 == second.sha256
    assert record.fell_back
    assert [a.verdict for a in record.attempts] == ["refused", "accepted"]
    assert record.attempts[0].reason.startswith(f"{first.name}, {first.bytes_moved / 1e6:.2f} MB")
    assert {node.precision for node in record.nodes} == {"fp16"}


def test_int8_loses_where_it_is_to_be_all_or_nothing(world: Path, tmp_path: Path, capsys):
    rtx()
    record = built(world, tmp_path / "whole", candidates=["int8", "fp16"])
    choice = choice_of(record)
    names = [one.name for one in choice.variants]
    assert names == ["fp16", "int8, one scale a weight", "int8"]
    assert choice.trials == 0
    assert "INT8 LOSES: FLOAT COSTS LESS" in capsys.readouterr().out
    page = Page((tmp_path / "whole/report.html").read_text())
    assert "INT8 loses on this compiler" in page.visible
    assert f"INT8 loses. fp16: {choice.variants[0].bytes_moved / 1e6:.2f} MB in" in page.visible


def test_without_trials_there_is_no_mixed_variant(world: Path, tmp_path: Path):
    rtx()
    record = built(world, tmp_path / "untried", compile={**ON_ADA, "trials": 0})
    mixed = by_name(record)["mixed"]
    assert (mixed.verdict, mixed.reason) == ("skipped", "compile.trials is 0")
    assert (mixed.kernels, mixed.sha256) == (None, None)
    assert choice_of(record).chosen.name == "fp16"


def test_what_silently_became_float_cannot_be_chosen(world: Path, tmp_path: Path):
    """For Turing TensorRT for RTX 1.7 compiles every INT8 convolution to float."""
    rtx()
    compile_for = {"capabilities": ["7.5"], "trials": 3}
    record = built(world, tmp_path / "turing", compile=compile_for)
    variants = by_name(record)
    for name in ("int8", "int8, one scale a weight"):
        one = variants[name]
        assert one.verdict == "refused"
        assert "nodes were to be INT8 and are not: " in one.reason
        assert "int8" not in one.achieved
        assert one.kernels > 0
    assert variants["mixed"].reason == "no node gains by INT8 (3 trials)"
    assert choice_of(record).chosen.name == "fp16"
    # Those that could not be chosen stand last.
    assert choice_of(record).variants[0].name == "fp16"


def test_a_variant_that_the_compiler_refuses_is_listed(world: Path, tmp_path: Path, monkeypatch):
    """A vector of one FP16 scale for a weight of many channels fails in its builder."""
    rtx()
    written = tensorrt.symmetric_weight

    def in_a_vector(weight: np.ndarray, axis: int | None, levels: int):
        how = written(weight, axis, levels)
        if axis is not None:
            return how
        return replace(how, scale=how.scale.reshape(1), zero_point=how.zero_point.reshape(1))

    monkeypatch.setattr(tensorrt, "symmetric_weight", in_a_vector)
    record = built(world, tmp_path / "refused")
    one = by_name(record)["int8, one scale a weight"]
    assert one.verdict == "refused"
    assert one.reason.startswith("the builder refuses the model: ")
    assert (one.kernels, one.loss) == (None, None)
    assert choice_of(record).chosen.name in {"fp16", "mixed"}


def test_where_float_is_dearer_a_search_spares_what_the_gate_refuses(world: Path, tmp_path: Path):
    """Against FP32 INT8 is the cheapest; where it does not hold, less of it is searched for."""
    rtx()
    record = built(
        world,
        tmp_path / "searched",
        gate={"metric": "agreement_ap", "max_loss": 2, "samples": 6},
        candidates=["int8", "mixed", "fp32"],
        search={"evaluations": 4, "frames": 1},
        compile={**ON_ADA, "trials": 0},
    )
    choice = choice_of(record)
    names = [one.name for one in choice.variants]
    assert len(set(names)) == len(names)
    first = "mixed, searched for a loss of 2.00"
    costs = [one.bytes_moved for one in choice.variants if one.kernels is not None]
    assert costs == sorted(costs)
    variants = by_name(record)
    assert variants["int8, one scale a weight"].verdict == "refused"
    assert variants[first].bytes_moved < variants["fp32"].bytes_moved
    assert variants[first].loss is not None
    made = [one.sha256 for one in choice.variants if one.sha256 is not None]
    assert len(set(made)) == len(made)
    assert choice.chosen is not None


def test_without_a_gate_the_cheapest_is_taken(world: Path, tmp_path: Path):
    rtx()
    record = built(world, tmp_path / "ungated", gate=None, candidates=["int8", "fp16"])
    first = choice_of(record).variants[0]
    assert (first.name, first.verdict, first.loss) == ("fp16", "accepted", None)


def test_rounding_may_be_left_out(world: Path, tmp_path: Path):
    rtx()
    record = built(
        world,
        tmp_path / "nearest",
        precision={"round": False, "weight_scales": "tensor"},
        compile={**ON_ADA, "choose_by": "kernels", "trials": 4},
    )
    choice = choice_of(record)
    assert "int8" not in {one.name for one in choice.variants}
    kernels = [one.kernels for one in choice.variants if one.kernels is not None]
    assert kernels == sorted(kernels)


def test_a_compiler_that_takes_nothing_ends_the_build(
    world: Path, tmp_path: Path, capsys, monkeypatch
):
    rtx()

    def refuse(*_):
        raise EngineError("the builder refuses the model: whatever it is")

    monkeypatch.setattr(accounts, "compile_plan", refuse)
    path = compiled_recipe(world, "nothing.yaml", candidates=["int8", "fp16"])
    code, message = build(path, tmp_path / "nothing", capsys)
    assert code == 1
    assert "takes no variant of the form: fp16: the builder refuses the model: whatever" in message
    assert "int8, one scale a weight: the builder refuses" in message
    assert len(message.strip().splitlines()) == 1
    assert entries(tmp_path) == []


def test_an_open_batch_is_counted_for_one_frame(world: Path, chosen: Path, tmp_path: Path):
    record = built(
        world,
        tmp_path / "batched",
        optimize={"max_batch": 2},
        candidates=["int8", "fp16"],
    )
    alone = by_name(load_bundle(chosen).manifest.artefacts["tensorrt"])
    for name, one in by_name(record).items():
        # Layouts may differ where the batch is open, sizes hardly.
        assert one.bytes_moved == pytest.approx(alone[name].bytes_moved, rel=0.3)


def test_an_absent_package_is_named_before_anything_is_done(
    world: Path, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    code, message = build(compiled_recipe(world, "absent.yaml"), tmp_path / "absent", capsys)
    assert code == 1
    assert "compile section (backend tensorrt_rtx) needs the Python module" in message
    assert "pip install 'av_compress[tensorrt-rtx]'" in message
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compile": {"backend": "openvino"}}, 'compile.backend: "openvino"'),
        ({"compile": {"capabilities": ["ada"]}}, "compile.capabilities"),
        ({"compile": {"capabilities": ["7.2"]}}, "compile.capabilities: '7.2' is not allowed"),
        ({"compile": {"choose_by": "luck"}}, 'compile.choose_by: "luck"'),
        ({"compile": {"trials": -1}}, "compile.trials"),
        ({"emitters": ["cpu"]}, "compile: chooses the form tensorrt"),
    ],
)
def test_wrong_wishes_are_one_line(world: Path, tmp_path: Path, capsys, changes, words):
    rtx()
    code, message = build(compiled_recipe(world, "w.yaml", **changes), tmp_path / "b", capsys)
    assert (code, words in message) == (2, True), message
    assert len(message.strip().splitlines()) == 1


def test_a_recipe_without_the_section_compiles_nothing(world: Path):
    assert load_recipe(recipe(world, "plain.yaml")).compile is None
    assert load_recipe(recipe(world, "null.yaml", compile=None)).compile is None
    wanted = load_recipe(compiled_recipe(world, "defaults.yaml", compile={})).compile
    assert wanted == CompileConfig()


def test_a_compiler_is_opened_for_what_it_knows():
    rtx()
    assert open_compiler(CompileConfig(), 4).options.batch == (1, 1, 4)
    with pytest.raises(ConfigError, match=r"'9.9' is not allowed; allowed: 7.5, 8.0, 8.6, 8.9"):
        open_compiler(CompileConfig(capabilities=("9.9",)), 1)


@pytest.mark.parametrize(
    ("version", "capabilities", "error", "words"),
    [
        ("8.6", (), ConfigError, "takes no types from the graph"),
        ("10.3", ("8.9",), ConfigError, "compiles for the card in this machine alone"),
        ("11.4", (), EngineError, "compiles on the device alone, and there is none here"),
    ],
)
def test_tensorrt_itself_is_for_the_device_alone(
    monkeypatch, version: str, capabilities: tuple[str, ...], error: type, words: str
):
    """The versions of its stand-in, on a machine without a card."""
    module, _ = make_module(version)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(accounts, "find_card", lambda: None)
    with pytest.raises(error, match=words):
        open_compiler(CompileConfig(backend="tensorrt", capabilities=capabilities), 1)
