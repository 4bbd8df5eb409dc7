# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress inspect`: verify a bundle and print what it says of itself."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

HELP = "verify a bundle's hashes and print what it holds and how it was judged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, metavar="DIR", help="the bundle's folder")
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")


def run(args: argparse.Namespace) -> int:
    """Load, verify and print."""
    from av_compress.build.summary import build_summary
    from av_compress.engines.bundle import load_bundle
    from av_compress.engines.measurements import load_measurements

    bundle = load_bundle(args.bundle)
    bundle.task()
    if args.json:
        print(json.dumps({"sha256": bundle.sha256, **asdict(bundle.manifest)}, indent=2))
    else:
        print(f"bundle {args.bundle}, sha256 {bundle.sha256}: every hash verified")
        print(build_summary(bundle.manifest, load_measurements(bundle.root)))
    return 0
