# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress sign`: vouch for a bundle and its plans with an Ed25519 key."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

HELP = "sign a bundle and its plans with an Ed25519 key"

PASSPHRASE = "AV_COMPRESS_KEY_PASSPHRASE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, metavar="DIR", help="the bundle's folder")
    parser.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="PEM",
        help="private key, as `openssl genpkey -algorithm ed25519` writes it; the passphrase of "
        f"an encrypted one is taken from the variable {PASSPHRASE}, or asked for",
    )


def run(args: argparse.Namespace) -> int:
    """Verify the hashes, sign, and say what was signed."""
    from av_compress.engines.bundle import load_bundle
    from av_compress.engines.trust.keys import SigningKey
    from av_compress.engines.trust.review import sign_bundle

    key = SigningKey.load(args.key, lambda: _passphrase(args.key))
    bundle = load_bundle(args.bundle)
    for warning in key.warnings:
        print(f"av-compress sign: warning: {warning}", file=sys.stderr)
    for finding in sign_bundle(bundle, key):
        stream = sys.stdout if finding.verdict == "ok" else sys.stderr
        print(f"{finding.subject}: {finding.text}", file=stream)
    return 0


def _passphrase(path: Path) -> bytes:
    from av_compress.errors import UsageError

    given = os.environ.get(PASSPHRASE)
    if given is not None:
        return os.fsencode(given)
    if not sys.stdin.isatty():
        raise UsageError(f"{path} is encrypted; set {PASSPHRASE}, or run where it can be asked")
    return getpass.getpass(f"passphrase of {path}: ").encode()
