# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress sensitivity`: what each node costs alone in INT8, and a plan by search."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "measure what each node costs in INT8, and search a precision plan, without a build"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="what would be built")
    parser.add_argument(
        "--emitter", default="tensorrt", help="the form to measure; by default tensorrt"
    )
    parser.add_argument(
        "--plan",
        type=Path,
        metavar="FILE.yaml",
        help="search too, and write the plan: name the file as the recipe's `precision`",
    )
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write all figures")
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="observe and measure anew, and keep nothing for later",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for."""
    from av_compress.build.observing import open_observing
    from av_compress.build.recipe import load_recipe
    from av_compress.build.search import journal_path
    from av_compress.build.sensitivity import measure, plan_yaml, table
    from av_compress.compress.search.journal import Journal
    from av_compress.compress.search.sensitivity import as_json
    from av_compress.fileio import canonical_json, write_text

    journal = Journal(None if args.no_cache else journal_path())
    observing = open_observing(cached=not args.no_cache)
    recipe, search = load_recipe(args.recipe), args.plan is not None
    found = measure(recipe, args.emitter, journal, search, observing)
    print(table(found))
    if args.json is not None:
        write_text(args.json, canonical_json(as_json(found.ranking)))
        print(f"wrote {args.json}")
    if args.plan is not None:
        write_text(args.plan, plan_yaml(found))
        print(f"wrote {args.plan}")
    return 0
