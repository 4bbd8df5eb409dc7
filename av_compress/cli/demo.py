# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress demo`: the whole line on a rendered drive, with the real nodes."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "render a drive, build a bundle for camera and for LiDAR, serve both, and report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("av_compress_demo"),
        metavar="DIR",
        help="where everything goes; an earlier demo there is replaced (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=float, default=12.0, help="length of the drive (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=7, help="which street, 0 to 899 (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 only when every part of it worked."""
    from av_compress.cli.demo_run import run_demo

    return run_demo(args.output, args.seed, args.seconds)
