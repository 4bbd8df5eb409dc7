# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress verify`: what of a bundle is as it was built, compiled and signed."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "verify a bundle's hashes, plans and signatures; exit code 1 where one does not hold"

_MARKS = {"ok": "ok  ", "note": "note", "bad": "BAD "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, metavar="DIR", help="the bundle's folder")
    parser.add_argument(
        "--key",
        type=Path,
        action="append",
        default=[],
        metavar="PEM",
        help="public key of somebody who is trusted, as `openssl pkey -pubout` writes it; with "
        "one or more, manifest and plans must be signed by one of them",
    )


def run(args: argparse.Namespace) -> int:
    """Check everything, one line for each check."""
    from av_compress.engines.trust.keys import TrustedKeys
    from av_compress.engines.trust.review import review

    keys = TrustedKeys.load(args.key) if args.key else None
    bad = 0
    for finding in review(args.bundle, keys):
        print(f"{_MARKS[finding.verdict]}  {finding.subject}: {' '.join(finding.text.split())}")
        bad += finding.verdict == "bad"
    if bad:
        print(f"{bad} checks failed: do not use this bundle")
    elif keys is None:
        print("every hash holds; no signature was verified: give the signer's --key public.pem")
    else:
        print("every hash and every signature holds")
    return 1 if bad else 0
