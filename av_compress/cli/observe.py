# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress observe`: one part of a build's observations, to be merged by the build."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "observe a part of a recipe's calibration frames, for `build --observed` to merge"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="what is to be built")
    parser.add_argument(
        "--part",
        default="1/1",
        metavar="K/N",
        help="which of N equal parts of the frames, from 1/N to N/N; by default all of them",
    )
    parser.add_argument(
        "--observed",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="all files of the first round, for the second one that migrated scales need",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE.npz", help="the file to write"
    )


def run(args: argparse.Namespace) -> int:
    """Observe and print what was."""
    from av_compress.build.observe import observe_part, open_parts
    from av_compress.build.parts import Part
    from av_compress.build.recipe import load_recipe

    part = Part.parse(args.part)
    found = observe_part(load_recipe(args.recipe), part, open_parts(args.observed), args.output)
    for what, frames in found:
        print(f"part {part}: {what} over {frames} frames")
    print(f"wrote {args.output}")
    return 0
