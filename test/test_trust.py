# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Trust: what a signature covers, what breaks it, and who may write what is executed."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_bundle import edit, write_bundle
from test_plans import record_of

pytest.importorskip("cryptography", reason="needs the extra `signing`")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from av_compress.cli.main import main
from av_compress.engines.bundle import load_bundle
from av_compress.engines.plans.store import PlanRecord, PlanStore, PlanTarget
from av_compress.engines.trust.host_code import host_code_allowed
from av_compress.engines.trust.keys import TrustedKeys
from av_compress.engines.trust.permissions import read_guarded
from av_compress.errors import BundleError, EngineError
from av_compress.fileio import sha256_bytes

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def write_keys(folder: Path, name: str, key=None, passphrase: bytes | None = None) -> Path:
    """Write NAME.pem and NAME.pub.pem; return the private one's path."""
    key = key or ed25519.Ed25519PrivateKey.generate()
    encryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    private = folder / f"{name}.pem"
    private.write_bytes(key.private_bytes(PEM, PKCS8, encryption))
    private.chmod(0o600)
    (folder / f"{name}.pub.pem").write_bytes(key.public_key().public_bytes(PEM, SPKI))
    return private


def public(private: Path) -> Path:
    return private.with_suffix(".pub.pem")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_keys(tmp_path, "mine")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write_keys(tmp_path, "other")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def add_plan(folder: Path, data: bytes = b"plan", **options) -> PlanRecord:
    """Add a plan of the bundle's cpu artefact."""
    artefact = load_bundle(folder).manifest.artefacts["cpu"]
    template = record_of(data, **options)
    target = PlanTarget("cpu", artefact.sha256, "tensorrt_rtx", "1.7", template.target.options)
    record = PlanRecord(
        target, sha256_bytes(data), len(data), 1.0, (), {"kernels": 1, "nodes": []}
    )
    PlanStore.of(folder).keep(record, data)
    return record


def sign(folder: Path, private: Path) -> None:
    assert main(["sign", str(folder), "--key", str(private)]) == 0


def trusted(*private: Path) -> TrustedKeys:
    return TrustedKeys.load([public(path) for path in private])


def refusal(folder: Path, *private: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder, trusted(*private))
    assert "av-compress sign" in str(caught.value)
    return caught.value.reason


def verify(folder: Path, *private: Path) -> int:
    keys = [item for path in private for item in ("--key", str(public(path)))]
    return main(["verify", str(folder), *keys])


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


# Keys


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048), "an RSA key"),
        (lambda: ec.generate_private_key(ec.SECP256R1()), "an EC key"),
    ],
    ids=["RSA", "EC"],
)
def test_a_key_of_another_type(folder, tmp_path, capsys, make, kind):
    private = write_keys(tmp_path, "foreign", make())
    for command in (
        ["sign", str(folder), "--key", str(private)],
        ["verify", str(folder), "--key", str(public(private))],
    ):
        assert main(command) == 2
        message = capsys.readouterr().err
        assert f"is {kind}, not an Ed25519 key" in message
        assert "openssl genpkey -algorithm ed25519" in message


def test_an_encrypted_key(folder, tmp_path, capsys, monkeypatch):
    private = write_keys(tmp_path, "locked", passphrase=b"open sesame")
    command = ["sign", str(folder), "--key", str(private)]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert main(command) == 2
    assert "set AV_COMPRESS_KEY_PASSPHRASE" in capsys.readouterr().err
    monkeypatch.setenv("AV_COMPRESS_KEY_PASSPHRASE", "wrong")
    assert main(command) == 2
    assert "is not opened by this passphrase" in capsys.readouterr().err
    monkeypatch.setenv("AV_COMPRESS_KEY_PASSPHRASE", "")
    assert main(command) == 2
    monkeypatch.setenv("AV_COMPRESS_KEY_PASSPHRASE", "open sesame")
    sign(folder, private)
    assert verify(folder, private) == 0


@pytest.mark.parametrize(
    ("verb", "content", "words"),
    [
        ("sign", None, "private key {} cannot be read: No such file"),
        ("sign", b"", "{} is no private key in PEM"),
        ("sign", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private"),
        ("sign", "public", "{} is a public key; a bundle is signed with the private one"),
        ("verify", None, "trusted key {} cannot be read: No such file"),
        ("verify", b"\x00\x01", "{} is no public key in PEM"),
        ("verify", "private", "{} is a private key: it belongs where bundles are signed"),
    ],
)
def test_a_key_that_cannot_be_used(folder, key, tmp_path, capsys, verb, content, words):
    path = tmp_path / "given.pem"
    if isinstance(content, str):
        path.write_bytes((key if content == "private" else public(key)).read_bytes())
    elif content is not None:
        path.write_bytes(content)
    assert main([verb, str(folder), "--key", str(path)]) == 2
    message = capsys.readouterr().err
    assert words.format(path) in message
    assert message.count("\n") == 1


def test_a_private_key_that_others_can_read_is_warned_of(folder, key, capsys):
    sign(folder, key)
    assert capsys.readouterr().err == ""
    key.chmod(0o644)
    sign(folder, key)
    assert "can be read by others (mode 644); run: chmod 600" in capsys.readouterr().err


def test_a_trusted_key_that_others_can_write_is_refused(folder, key, capsys):
    sign(folder, key)
    public(key).chmod(0o666)
    assert verify(folder, key) == 1
    assert "can be written by everyone" in capsys.readouterr().err


def test_without_cryptography_the_extra_is_named(folder, key):
    script = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from av_compress.cli.main import main\n"
        f"assert main(['verify', {str(folder)!r}]) == 0\n"
        f"assert main(['inspect', {str(folder)!r}]) == 0\n"
        f"sys.exit(main(['verify', {str(folder)!r}, '--key', {str(public(key))!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "pip install 'av_compress[signing]'" in done.stderr
    assert "Traceback" not in done.stderr


# Who may write


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
    assert "can be written by everyone" in store.unfit(record, record.target.artefact_sha256)
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


# Host code


def test_host_code_needs_the_author_and_a_trusted_signature(folder, key, other):
    edit(folder, lambda value: value["recipe"].update(trust={"allow_host_code": True}))
    unsigned = load_bundle(folder)
    assert not host_code_allowed(unsigned, None)
    assert not host_code_allowed(unsigned, trusted(key))
    sign(folder, key)
    bundle = load_bundle(folder, trusted(key))
    assert host_code_allowed(bundle, bundle.keys)
    assert not host_code_allowed(bundle, None)
    assert not host_code_allowed(bundle, trusted(other))
    # Another signed manifest than the one that was parsed.
    edit(folder, lambda value: value.update(name="other"))
    sign(folder, key)
    assert not host_code_allowed(bundle, trusted(key))


@pytest.mark.parametrize("trust", [None, {}, {"allow_host_code": False}, {"allow_host_code": 1}])
def test_host_code_that_nobody_asked_for(folder, key, trust):
    if trust is not None:
        edit(folder, lambda value: value["recipe"].update(trust=trust))
    sign(folder, key)
    bundle = load_bundle(folder, trusted(key))
    assert not host_code_allowed(bundle, bundle.keys)
