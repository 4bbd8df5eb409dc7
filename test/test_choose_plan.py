# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which plan of a bundle is served, and what is said of those that are not."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_compress.cli.main import make_parser
from av_compress.engines.plans.choose import Runner, choose_plan
from av_compress.engines.plans.command import command
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.plans.store import PlanRecord, PlanStore, PlanTarget
from av_compress.errors import EngineError
from av_compress.fileio import sha256_bytes

ARTEFACT = "0" * 64
ORIN = "NVIDIA Orin (8.7)"
HERE = Runner("tensorrt", "10.3.0", ORIN, "8.7")


def keep(
    root: Path,
    backend: str = "tensorrt",
    version: str = "10.3.0",
    card: str = ORIN,
    at: int = 1,
    **options,
) -> PlanRecord:
    target = PlanTarget.of("tensorrt", ARTEFACT, backend, version, CompileOptions(**options), card)
    data = target.key.encode()
    record = PlanRecord(target, sha256_bytes(data), len(data), 1.0, (), {}, compiled_ns=at)
    PlanStore.of(root).keep(record, data)
    return record


def chosen(root: Path, runner: Runner = HERE, batches=None) -> PlanRecord:
    return choose_plan(root, PlanStore.of(root), runner, {"tensorrt": ARTEFACT}, batches)


def refusal(root: Path, runner: Runner = HERE, batches=None) -> str:
    with pytest.raises(EngineError) as caught:
        chosen(root, runner, batches)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"format": 2, "target": {}}',
        b'{"format": 3, "target": {"emitter": "tensorrt"}, "warnings": []}',
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_record_that_cannot_be_read_stops_no_other_plan(tmp_path: Path, content: bytes):
    good = keep(tmp_path)
    (tmp_path / "plans" / "aaaa.json").write_bytes(content)
    assert chosen(tmp_path) == good
    # Where nothing else fits, its reason is one of the list.
    said = refusal(tmp_path, replace(HERE, version="10.4.0"))
    assert f"plan {good.target.key}: it was compiled by version 10.3.0" in said
    assert "plan aaaa: " in said
    assert "compile again" in said


def test_a_record_whose_content_was_edited_is_listed(tmp_path: Path):
    good, other = keep(tmp_path), keep(tmp_path, at=2, workspace=1)
    path = PlanStore.of(tmp_path).record_path(other.target.key)
    for change in ({"compiled_ns": "now"}, {"warnings": 1}):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, **change}))
        assert chosen(tmp_path) == good
        assert list(PlanStore.of(tmp_path).survey().unreadable) == [other.target.key]
        path.write_text(json.dumps(content))
    assert chosen(tmp_path) == other


def test_the_latest_serves_whatever_the_files_times_say(tmp_path: Path):
    early, late = keep(tmp_path, at=1), keep(tmp_path, at=2, workspace=1)
    for record, at in ((early, 9), (late, 3)):
        path = tmp_path / "plans" / f"{record.target.key}.plan"
        os.utime(path, ns=(at, at))
    assert chosen(tmp_path) == late
    PlanStore.of(tmp_path).renew(early, 5)
    assert chosen(tmp_path) == replace(early, compiled_ns=5)


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        # The latest takes four alone.
        (None, (1, 2, 3)),
        ((1, 1), (1, 2, 3)),
        ((4, 4), (4, 4, 4)),
        # None takes one to four: then one that takes one.
        ((1, 4), (1, 2, 3)),
        ((1, 3), (1, 2, 3)),
        ((2, 4), (1, 2, 3)),
    ],
)
def test_the_batch_decides_before_the_time(tmp_path: Path, batches, expected):
    for at, batch in enumerate(((1, 1, 1), (1, 2, 3), (4, 4, 4))):
        keep(tmp_path, at=at, batch=batch)
    assert tuple(chosen(tmp_path, batches=batches).target.options["batch"]) == expected


def test_a_plan_of_another_batch_says_so(tmp_path: Path):
    made = keep(tmp_path, batch=(4, 4, 4))
    said = refusal(tmp_path, batches=(1, 1))
    assert f"plan {made.target.key}: it was compiled for batches of 4 to 4, wanted is 1" in said
    assert f"run: av-compress compile {tmp_path} --backend tensorrt" in said
    # Where nothing is asked for, it is all there is.
    assert chosen(tmp_path) == made


@pytest.mark.parametrize(
    ("compiled", "here", "flags", "fits"),
    [
        ("10.3.0", "10.3.0", (), True),
        ("10.3.0", "10.13.3.9", (), False),
        ("10.3.0", "10.13.3.9", ("VERSION_COMPATIBLE",), True),
        ("10.13.3.9", "10.13.3.9+jp7", ("VERSION_COMPATIBLE",), True),
        ("10.13.3.9", "10.3.0", ("VERSION_COMPATIBLE",), False),
        ("10.3.0", "11.0.0", ("VERSION_COMPATIBLE",), False),
        ("10.0.0b6", "10.3.0", ("VERSION_COMPATIBLE",), False),
        ("10.0.0b6", "10.0.0b6", (), True),
        ("10.0.0", "unknown", ("VERSION_COMPATIBLE",), False),
    ],
)
def test_versions(tmp_path: Path, compiled: str, here: str, flags, fits: bool):
    made = keep(tmp_path, version=compiled, flags=flags)
    runner = replace(HERE, version=here)
    if fits:
        assert chosen(tmp_path, runner) == made
    else:
        assert f"version {compiled}, installed is {here}" in refusal(tmp_path, runner)


@pytest.mark.parametrize(
    ("level", "capability", "fits"),
    [
        (None, "8.7", False),
        ("AMPERE_PLUS", "8.0", True),
        ("AMPERE_PLUS", "12.0", True),
        ("AMPERE_PLUS", "7.5", False),
        ("SAME_COMPUTE_CAPABILITY", "8.7", True),
        ("SAME_COMPUTE_CAPABILITY", "8.9", False),
        ("SOMETHING_NEW", "8.7", False),
    ],
)
def test_another_card_is_held_against_the_level(tmp_path: Path, level, capability, fits):
    made = keep(tmp_path, hardware_compatibility=level)
    runner = replace(HERE, card=f"Another ({capability})", capability=capability)
    if fits:
        assert chosen(tmp_path, runner) == made
    else:
        assert f"this is Another ({capability})" in refusal(tmp_path, runner)
    # On its own card every plan fits.
    assert chosen(tmp_path) == made


def test_what_compiling_does_not_mend_names_no_compilation(tmp_path: Path):
    made = keep(tmp_path)
    plan = tmp_path / "plans" / f"{made.target.key}.plan"
    plan.chmod(0o666)
    said = refusal(tmp_path)
    assert f"run: chmod go-w '{plan}'" in said
    assert "av-compress compile" not in said


OPTIONS = st.builds(
    CompileOptions,
    capabilities=st.lists(st.sampled_from(["8.6", "8.9", "12.0"])).map(tuple),
    workspace=st.none() | st.integers(1, 1 << 40),
    optimization_level=st.none() | st.integers(0, 5),
    batch=st.lists(st.integers(1, 8), min_size=3, max_size=3).map(lambda n: tuple(sorted(n))),
    dla_core=st.none() | st.integers(0, 1),
    flags=st.lists(st.sampled_from(["SPARSE_WEIGHTS", "VERSION_COMPATIBLE"])).map(tuple),
    hardware_compatibility=st.none() | st.just("AMPERE_PLUS"),
)


@given(options=OPTIONS, folder=st.sampled_from(["bundle", "my bundle", "it's"]))
def test_the_command_asks_for_the_same_plan(options: CompileOptions, folder: str):
    from av_compress.cli.compile import options_of

    words = shlex.split(command(Path(folder), "tensorrt", options, max_batch=4))
    args = make_parser(["compile"]).parse_args(words[1:])
    assert args.bundle == Path(folder)
    assert args.backend == "tensorrt"
    assert options_of(args, 4) == options


@given(
    given=st.lists(st.sampled_from(["7.5", "8.6", "8.9", "10.0", "12.0"])),
    flags=st.lists(st.sampled_from("ABC")),
)
def test_options_that_mean_the_same_have_one_key(given: list[str], flags: list[str]):
    def key(capabilities, names) -> str:
        options = CompileOptions(capabilities=tuple(capabilities), flags=tuple(names))
        return PlanTarget.of("tensorrt", ARTEFACT, "tensorrt_rtx", "1", options).key

    assert key(given, flags) == key(sorted(set(given)), reversed([*flags, *flags]))
    made = CompileOptions(capabilities=tuple(given)).capabilities
    assert list(made) == [one for one in ("7.5", "8.6", "8.9", "10.0", "12.0") if one in given]
