# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Signatures: what they cover, and what breaks them."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers_trust import (
    add_plan,
    folder,  # noqa: F401
    key,  # noqa: F401
    other,  # noqa: F401
    public,
    refusal,
    sign,
    trusted,
    verify,
)
from test_bundle import edit, write_bundle

from av_compress.cli.main import main
from av_compress.engines.bundle import load_bundle
from av_compress.engines.plans.store import PlanRecord
from av_compress.errors import BundleError, EngineError
from av_compress.fileio import sha256_bytes


def test_a_signature_is_what_openssl_says_it_is(folder, key, tmp_path):
    """Key id, signed bytes and signature, by another implementation and as documented."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    sign(folder, key)
    signature = json.loads((folder / "manifest.sig").read_text())
    command = ["openssl", "pkey", "-pubin", "-in", str(public(key)), "-outform", "DER"]
    der = subprocess.run(command, capture_output=True, check=True).stdout
    assert signature["key_id"] == sha256_bytes(der)
    message = b"av_compress signature 1: manifest\n" + (folder / "manifest.json").read_bytes()
    (tmp_path / "message").write_bytes(message)
    (tmp_path / "signature").write_bytes(base64.b64decode(signature["signature"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public(key)), "-rawin"]
    command += ["-in", str(tmp_path / "message"), "-sigfile", str(tmp_path / "signature")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_keys_of_openssl_are_taken(folder, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    private = tmp_path / "made.pem"
    make = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)]
    publish = ["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public(private))]
    for command in (make, publish):
        subprocess.run(command, check=True, capture_output=True)
    sign(folder, private)
    assert load_bundle(folder, trusted(private)).manifest.name == "tiny"


def test_everything_holds_line_by_line(folder, key, capsys):
    record = add_plan(folder)
    assert verify(folder) == 0
    assert "manifest.json: not signed" in capsys.readouterr().out
    assert verify(folder, key) == 1
    assert capsys.readouterr().out.count("BAD") == 2
    sign(folder, key)
    assert capsys.readouterr().out.count("signed by the key") == 2
    assert verify(folder, key) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        "ok    manifest.json",
        "ok    cpu/model.onnx",
        f"ok    plan {record.target.key}",
        f"ok    plan {record.target.key}",
    ]
    bundle = load_bundle(folder, trusted(key))
    assert bundle.plans().records() == [record]
    assert bundle.plans().find(record.target) == record
    assert bundle.plans().read(record) == b"plan"


def test_inspect_tells_who_signed(folder, key, capsys):
    add_plan(folder)
    assert main(["inspect", str(folder)]) == 0
    assert capsys.readouterr().out.count("signature: not signed") == 2
    sign(folder, key)
    capsys.readouterr()
    assert main(["inspect", str(folder)]) == 0
    key_id = json.loads((folder / "manifest.sig").read_text())["key_id"]
    assert capsys.readouterr().out.count(f"signature: signed by the key {key_id[:16]}") == 2
    edit(folder, lambda value: value.update(name="renamed"))
    assert main(["inspect", str(folder)]) == 0
    assert "signature: not signed: its signature is of an earlier content" in (
        capsys.readouterr().out
    )


def test_an_unsigned_bundle_is_refused_where_a_signature_is_required(folder, key):
    assert load_bundle(folder).manifest.name == "tiny"
    assert refusal(folder, key) == "unsigned"


def test_a_changed_manifest(folder, key):
    sign(folder, key)
    edit(folder, lambda value: value["task"].update(score_threshold=0.9))
    assert refusal(folder, key) == "signature_stale"
    assert verify(folder, key) == 1
    # The forger makes the hash fit too.
    path = folder / "manifest.sig"
    content = json.loads(path.read_text())
    content["sha256"] = sha256_bytes((folder / "manifest.json").read_bytes())
    path.write_text(json.dumps(content))
    assert refusal(folder, key) == "signature_bad"


def test_the_signature_is_verified_before_the_manifest_is_parsed(folder, key):
    sign(folder, key)
    (folder / "manifest.json").write_text("{ not JSON")
    assert refusal(folder, key) == "signature_stale"


def test_a_changed_artefact(folder, key):
    sign(folder, key)
    (folder / "cpu/model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError) as caught:
        load_bundle(folder, trusted(key))
    assert caught.value.reason == "artefact_hash"
    assert verify(folder, key) == 1


def test_an_unknown_key(folder, key, other):
    sign(folder, key)
    assert refusal(folder, other) == "unknown_key"
    assert load_bundle(folder, trusted(other, key)).manifest.name == "tiny"


def test_a_signature_that_names_a_trusted_key_but_is_of_another(folder, key, other):
    sign(folder, other)
    path = folder / "manifest.sig"
    forged = json.loads(path.read_text())
    sign(folder, key)
    forged["key_id"] = json.loads(path.read_text())["key_id"]
    path.write_text(json.dumps(forged))
    assert refusal(folder, key) == "signature_bad"


def test_signatures_swapped_between_bundles(folder, key, tmp_path):
    second = write_bundle(tmp_path / "second")
    edit(second, lambda value: value.update(name="second"))
    sign(folder, key)
    sign(second, key)
    shutil.copy(second / "manifest.sig", folder / "manifest.sig")
    assert refusal(folder, key) == "signature_stale"


def plan_refusal(folder: Path, record: PlanRecord, key: Path) -> str:
    with pytest.raises((BundleError, EngineError)) as caught:
        load_bundle(folder, trusted(key)).plans().read(record)
    return str(caught.value)


def test_a_changed_plan(folder, key):
    record = add_plan(folder)
    sign(folder, key)
    path = folder / "plans" / f"{record.target.key}.plan"
    path.write_bytes(b"evil")
    assert "not the plan that was compiled" in plan_refusal(folder, record, key)
    assert verify(folder, key) == 1
    # The forger makes the record fit too.
    described = path.with_suffix(".json")
    content = json.loads(described.read_text())
    content["sha256"] = sha256_bytes(b"evil")
    described.write_text(json.dumps(content))
    with pytest.raises(BundleError) as caught:
        load_bundle(folder, trusted(key)).plans().find(record.target)
    assert caught.value.reason == "signature_stale"
    assert verify(folder, key) == 1


def test_signatures_and_records_swapped_between_plans(folder, key):
    one, two = add_plan(folder, b"one"), add_plan(folder, b"two", optimization_level=1)
    sign(folder, key)
    first, second = (folder / "plans" / f"{r.target.key}.json" for r in (one, two))
    kept = {path: path.read_bytes() for path in (folder / "plans").iterdir()}
    shutil.copy(second.with_suffix(".sig"), first.with_suffix(".sig"))
    assert "[signature_stale]" in plan_refusal(folder, one, key)
    for end in (".json", ".sig", ".plan"):
        shutil.copy(second.with_suffix(end), first.with_suffix(end))
    with pytest.raises(EngineError, match=f"is the record of {two.target.key}"):
        load_bundle(folder, trusted(key)).plans().record(one.target.key)
    assert verify(folder, key) == 1
    for path, data in kept.items():
        path.write_bytes(data)
    assert verify(folder, key) == 0


def test_the_signature_of_one_kind_is_none_of_another(folder, key):
    """A manifest signed as such, offered as a plan's record, and the other way round."""
    record = add_plan(folder)
    sign(folder, key)
    path = folder / "plans" / f"{record.target.key}.json"
    for source, target in ((folder / "manifest.json", path), (path, folder / "manifest.json")):
        content = json.loads(source.with_suffix(".sig").read_text())
        kept = target.read_bytes(), target.with_suffix(".sig").read_bytes()
        target.write_bytes(source.read_bytes())
        for kind in (content["kind"], "plan" if content["kind"] == "manifest" else "manifest"):
            target.with_suffix(".sig").write_text(json.dumps({**content, "kind": kind}))
            with pytest.raises(BundleError) as caught:
                load_bundle(folder, trusted(key)).plans().record(record.target.key)
            assert caught.value.reason == "signature_bad"
        target.write_bytes(kept[0])
        target.with_suffix(".sig").write_bytes(kept[1])


def test_a_plan_compiled_anew_or_added_later_is_unsigned(folder, key, capsys):
    record = add_plan(folder)
    sign(folder, key)
    signature = folder / "plans" / f"{record.target.key}.sig"
    assert signature.exists()
    add_plan(folder)
    assert not signature.exists()
    assert "[unsigned]" in plan_refusal(folder, record, key)
    assert verify(folder, key) == 1


def test_what_is_not_whole_is_not_signed(folder, key, capsys):
    record = add_plan(folder)
    sign(folder, key)
    path = folder / "plans" / f"{record.target.key}.plan"
    path.write_bytes(b"torn")
    sign(folder, key)
    assert "not signed: " in capsys.readouterr().err
    assert not path.with_suffix(".sig").exists()
    path.unlink()
    path.with_suffix(".json").unlink()
    path.with_suffix(".sig").write_text("{}")
    assert verify(folder, key) == 0
    assert "belongs to no plan's record" in capsys.readouterr().out


def test_a_damaged_bundle_is_not_signed(folder, key, capsys):
    (folder / "cpu/model.onnx").write_bytes(b"other")
    assert main(["sign", str(folder), "--key", str(key)]) == 1
    assert "artefact_hash" in capsys.readouterr().err
    assert not (folder / "manifest.sig").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: text.replace("ed25519", "none"),
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: json.dumps({**json.loads(text), "more": 1}),
        lambda text: json.dumps({**json.loads(text), "signature": "AAAA"}),
        lambda text: json.dumps({**json.loads(text), "signature": 7}),
        lambda text: json.dumps({**json.loads(text), "signature": "*" * 88}),
        lambda text: json.dumps({**json.loads(text), "key_id": None}),
        lambda text: "\x00\xff",
    ],
)
def test_a_signature_that_is_none(folder, key, spoil, capsys):
    sign(folder, key)
    path = folder / "manifest.sig"
    path.write_text(spoil(path.read_text()))
    assert refusal(folder, key) == "signature_unreadable"
    assert verify(folder, key) == 1
    assert main(["inspect", str(folder)]) == 0
    assert "[signature_unreadable]" in capsys.readouterr().out
