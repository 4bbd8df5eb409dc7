# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""One batched pipeline against one pipeline for each camera, with ONNX Runtime on this machine.

    python benchmarks/multi_camera.py --bundle DIR --cameras 4

DIR was built with optimize: {max_batch: 4}, or more. Both serve one 1280x720 image of each camera,
by turns, so that a machine whose speed drifts is fair to both; the single ones one after the
other, as nodes that share the processor do. Memory is that of a process which does nothing else:
one for the batched pipeline, and one for each camera. The middleware is not part of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from common import interleaved_medians, peak_memory_mib, save_results

from av_compress.engines.bundle import load_bundle
from av_compress.engines.onnxruntime import OrtOptions
from av_compress.engines.pipeline import Pipeline
from av_compress.tasks.base import ImageFrame

WIDTH, HEIGHT = 1280, 720
ROUNDS_FOR_MEMORY = 10


def images(count: int) -> list[ImageFrame]:
    rng = np.random.default_rng(0)
    return [ImageFrame(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)) for _ in range(count)]


def open_pipeline(bundle: Path, threads: int, batched: bool) -> Pipeline:
    # As the nodes do: idle threads of one model would take the processor from the others.
    quiet = {"session.intra_op.allow_spinning": "0"}
    options = OrtOptions(intra_op_threads=threads, session_config=quiet)
    return load_bundle(bundle).open_pipeline("onnxruntime", options, batched=batched)


def timed(work: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - started)

    return run


def times(bundle: Path, cameras: int, threads: int, rounds: int) -> dict[str, float]:
    """Return the median milliseconds for one image of each camera."""
    frames = images(cameras)
    batched = open_pipeline(bundle, threads, True)
    singles = [open_pipeline(bundle, threads, False) for _ in frames]
    with closing(batched):
        medians = interleaved_medians(
            {
                "batched_ms": timed(lambda: batched.process_all(frames)),
                "single_ms": timed(
                    lambda: [one.process(frame) for one, frame in zip(singles, frames)]
                ),
            },
            rounds,
        )
    for one in singles:
        one.close()
    return medians


def memory(bundle: Path, cameras: int, threads: int, batched: bool) -> float:
    """Return the peak MiB of a process with one pipeline."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_use, (bundle, cameras if batched else 1, threads, batched))


def _use(bundle: Path, cameras: int, threads: int, batched: bool) -> float:
    frames = images(cameras)
    with closing(open_pipeline(bundle, threads, batched)) as pipeline:
        for _ in range(ROUNDS_FOR_MEMORY):
            pipeline.process_all(frames)
    return peak_memory_mib()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    manifest = load_bundle(args.bundle).manifest
    if manifest.max_batch < args.cameras:
        print(f"{args.bundle} takes {manifest.max_batch} frames at once, not {args.cameras}")
        return 2
    figures = {}
    for threads in (1, 2):
        taken = times(args.bundle, args.cameras, threads, args.rounds)
        figures[f"threads_{threads}"] = {
            **{name: round(value, 3) for name, value in taken.items()},
            "time_of_single": round(taken["batched_ms"] / taken["single_ms"], 3),
        }
    batched = memory(args.bundle, args.cameras, 1, True)
    single = memory(args.bundle, args.cameras, 1, False)
    figures |= {
        "bundle": manifest.name,
        "cameras": args.cameras,
        "rounds": args.rounds,
        "batched_mib": round(batched, 1),
        "single_mib_each": round(single, 1),
        "memory_of_single": round(batched / (args.cameras * single), 3),
    }
    save_results("multi_camera", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
