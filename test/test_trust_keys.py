# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Keys that cannot be used, and what only a trusted one may allow."""

import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from helpers_trust import (
    folder,  # noqa: F401
    key,  # noqa: F401
    other,  # noqa: F401
    public,
    sign,
    trusted,
    verify,
    write_keys,
)
from test_bundle import edit

from av_compress.cli.main import main
from av_compress.engines.bundle import load_bundle
from av_compress.engines.trust.host_code import host_code_allowed


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
