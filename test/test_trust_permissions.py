# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Who may write to what is executed, and what is read of it."""

import os

import pytest
from helpers_trust import (
    add_plan,
    folder,  # noqa: F401
    verify,
)
from test_plans import record_of

from av_compress.engines.plans.store import PlanStore
from av_compress.engines.trust.permissions import read_guarded
from av_compress.errors import EngineError


@pytest.mark.parametrize("what", ["plan", "json", "folder", "bundle"])
@pytest.mark.parametrize("mode", [0o002, 0o1002])
def test_a_plan_that_everyone_can_write_is_not_read(folder, what, mode):
    record = add_plan(folder)
    store = PlanStore.of(folder)
    assert store.read(record) == b"plan"
    plan = folder / "plans" / f"{record.target.key}.plan"
    places = {"plan": plan, "json": plan.with_suffix(".json"), "folder": plan.parent}
    place = places.get(what, folder)
    before = place.stat().st_mode
    place.chmod(before | mode)
    with pytest.raises(EngineError, match=r"can be written by everyone.*chmod go-w"):
        store.read(record)
    unfit = store.unfit(record, record.target.artefact_sha256)
    assert "can be written by everyone" in unfit.reason
    assert not unfit.recompile
    place.chmod(before)
    assert store.read(record) == b"plan"


def test_others_in_the_group_may_not_write_either(folder):
    record = add_plan(folder)
    plan = folder / "plans" / f"{record.target.key}.plan"
    plan.chmod(0o664)
    # The owner's own group: what umask 002 makes.
    assert PlanStore.of(folder).read(record) == b"plan"
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to a group that he is not in")
    os.chown(plan, 0, 65001)
    with pytest.raises(EngineError, match="can be written by the group 65001"):
        PlanStore.of(folder).read(record)
    # An owner without a name, as in a container: his private group has his number.
    os.chown(plan, 65001, 65001)
    assert PlanStore.of(folder).read(record) == b"plan"


def test_a_plan_is_a_plain_file(folder, tmp_path):
    record = add_plan(folder)
    plan = folder / "plans" / f"{record.target.key}.plan"
    plan.rename(tmp_path / "elsewhere")
    plan.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="is a link"):
        PlanStore.of(folder).read(record)
    plan.unlink()
    os.mkfifo(plan)
    with pytest.raises(EngineError, match="is no plain file"):
        PlanStore.of(folder).read(record)
    plan.unlink()
    with pytest.raises(EngineError, match="cannot be read: No such file"):
        PlanStore.of(folder).read(record)


def test_what_is_read_is_what_was_judged(tmp_path, monkeypatch):
    """A file that is exchanged between the check and the reading is not the one that is read."""
    path = tmp_path / "plan"
    path.write_bytes(b"good")
    evil = tmp_path / "evil"
    evil.write_bytes(b"evil")
    fstat = os.fstat

    def exchange(descriptor):
        status = fstat(descriptor)
        if evil.exists() and status.st_size == 4:
            evil.replace(path)
        return status

    monkeypatch.setattr(os, "fstat", exchange)
    assert read_guarded(path) == b"good"
    assert path.read_bytes() == b"evil"


def test_a_plan_is_not_compiled_where_it_would_not_be_read(folder):
    record = record_of(b"plan")
    folder.chmod(0o777)
    with (
        pytest.raises(EngineError, match="can be written by everyone"),
        PlanStore.of(folder).compiling(record.target),
    ):
        pytest.fail("was let in")


def test_a_loose_umask_makes_no_loose_plan(folder):
    before = os.umask(0)
    try:
        record = add_plan(folder)
    finally:
        os.umask(before)
    (folder / "plans").chmod(0o755)
    assert PlanStore.of(folder).read(record) == b"plan"


def test_verify_notes_what_others_can_change(folder, capsys):
    (folder / "manifest.json").chmod(0o666)
    assert verify(folder) == 0
    assert "note  manifest.json: can be written by everyone" in capsys.readouterr().out
