# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress build`: from a recipe to a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av_compress.build.observing import Observing
    from av_compress.compress.search.journal import Journal

HELP = "compress a model by a recipe, measure it, and write the bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="what to build")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="the bundle's folder; an earlier bundle there is replaced once the new one is whole",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--observed",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="files of `av-compress observe`, all parts: what they observed is merged, not run",
    )
    where.add_argument(
        "--no-cache",
        action="store_true",
        help="observe and search anew, and keep nothing in the cache ($AV_COMPRESS_CACHE, by "
        "default ~/.cache/av_compress)",
    )


def run(args: argparse.Namespace) -> int:
    """Build and print what was measured."""
    from av_compress.build.builder import build_bundle
    from av_compress.build.recipe import load_recipe
    from av_compress.build.summary import build_summary
    from av_compress.engines.measurements import load_measurements

    bundle = build_bundle(load_recipe(args.recipe), args.output, _observing(args), _journal(args))
    print(build_summary(bundle.manifest, load_measurements(bundle.root)))
    print(
        f"bundle: {args.output} (sha256 {bundle.sha256[:12]}); report: {args.output}/report.html"
    )
    return 0


def _observing(args: argparse.Namespace) -> Observing:
    """Choose where observations come from."""
    from av_compress.build.observe import open_parts
    from av_compress.build.observing import open_observing

    if args.observed:
        return open_parts(args.observed)
    return open_observing(cached=not args.no_cache)


def _journal(args: argparse.Namespace) -> Journal:
    """Choose where a search goes on from."""
    from av_compress.build.search import journal_path
    from av_compress.compress.search.journal import Journal

    return Journal(None if args.no_cache else journal_path())
