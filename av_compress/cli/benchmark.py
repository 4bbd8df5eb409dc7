# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress benchmark`: a bundle's models timed on this machine, side by side."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from av_compress.cli.frames import add_frame_arguments, open_frames
from av_compress.engines.forms import BACKENDS, FORMS

if TYPE_CHECKING:
    from av_compress.engines.onnxruntime import OrtOptions
    from av_compress.validate.benchmark.contestants import Wanted

HELP = "time a bundle's models on this machine, side by side: latency, throughput, layers"

# More threads than that for each core only wait for each other, and many a thousand never start.
_THREADS_PER_CORE = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, metavar="DIR", help="the bundle's folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--layers", action="store_true", help="time each layer too, in runs of their own"
    )
    _add_what(parser.add_argument_group("what is timed"))
    _add_how(parser.add_argument_group("how, by default as trtexec does"))


def _add_what(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backend",
        action="append",
        choices=BACKENDS,
        default=[],
        help="may be given again; by default onnxruntime, and those that have a plan that fits",
    )
    group.add_argument(
        "--emitter",
        action="append",
        choices=tuple(FORMS),
        default=[],
        help="a form for ONNX Runtime; may be given again; by default those for its provider",
    )
    group.add_argument(
        "--against",
        action="append",
        type=Path,
        default=[],
        metavar="DIR_OR_ONNX",
        help="another bundle, or a model such as the original; may be given again",
    )
    group.add_argument(
        "--device", default="0", metavar="INDEX|UUID", help="the card that plans run on (0)"
    )
    group.add_argument(
        "--provider",
        choices=("cpu", "cuda"),
        default="cpu",
        help="what ONNX Runtime runs on (cpu)",
    )
    group.add_argument(
        "--threads", type=int, default=0, metavar="N", help="of ONNX Runtime; 0: all cores (0)"
    )


def _add_how(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--iterations", type=int, default=10, metavar="N", help="least runs of each model (10)"
    )
    group.add_argument(
        "--seconds", type=float, default=3.0, metavar="S", help="least time of each model (3)"
    )
    group.add_argument(
        "--warm-up", type=float, default=200.0, metavar="MS", help="before it counts (200)"
    )
    group.add_argument("--batch", type=int, default=1, metavar="N", help="frames in each run (1)")
    add_frame_arguments(group, "; by default random numbers")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, and write what was asked for."""
    from av_compress.engines.bundle import load_bundle
    from av_compress.fileio import canonical_json, write_text
    from av_compress.validate.benchmark.measure import BenchmarkOptions
    from av_compress.validate.benchmark.output import benchmark_json, benchmark_text
    from av_compress.validate.benchmark.run import benchmark

    options = BenchmarkOptions(args.iterations, args.seconds, args.warm_up, args.batch)
    bundle = load_bundle(args.bundle)
    with ExitStack() as stack:
        source = None
        if args.data is not None:
            source = open_frames(args, bundle.task().frame_needs)
            stack.enter_context(closing(source))
        result, warnings = benchmark(bundle, _wanted(args), options, source, args.layers)
    print(benchmark_text(result))
    for warning in warnings:
        print(f"av-compress benchmark: warning: {warning}", file=sys.stderr)
    if args.json is not None:
        write_text(args.json, canonical_json(benchmark_json(result)))
    return 0


def _wanted(args: argparse.Namespace) -> Wanted:
    from av_compress.validate.benchmark.contestants import Wanted

    return Wanted(
        backends=tuple(dict.fromkeys(args.backend)),
        emitters=tuple(dict.fromkeys(args.emitter)),
        against=tuple(args.against),
        device=args.device,
        ort=_ort(args),
    )


def _ort(args: argparse.Namespace) -> OrtOptions:
    from av_compress.engines.machine import find_card
    from av_compress.engines.onnxruntime import CPU, CUDA, OrtOptions
    from av_compress.errors import UsageError

    most = _THREADS_PER_CORE * (os.cpu_count() or 1)
    if not 0 <= args.threads <= most:
        raise UsageError(
            f"--threads {args.threads}: give 0 for all cores, or up to {most} on this machine"
        )
    # As in the nodes. Threads that spin after one model's turn would take the other's cores.
    quiet = {"session.intra_op.allow_spinning": "0"}
    if args.provider == "cpu":
        return OrtOptions((CPU,), args.threads, session_config=quiet)
    card = find_card(args.device)
    chosen = {CUDA: {"device_id": str(card.index if card is not None else 0)}}
    return OrtOptions((CUDA,), args.threads, provider_options=chosen, session_config=quiet)
