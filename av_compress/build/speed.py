# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Two precisions of a form, timed side by side: by turns, so that a drifting machine is fair."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np

from av_compress.build.recipe import SpeedConfig
from av_compress.engines.measurements import SpeedRecord, Spread
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.fileio import sha256_bytes
from av_compress.progress import track
from av_compress.tensors import Tensors

WARM_UP = 2


def compare_speed(
    candidate: bytes,
    against: bytes,
    inputs: Sequence[Tensors],
    config: SpeedConfig,
    names: tuple[str, str, str],
) -> SpeedRecord:
    """Time two models by turns on the same inputs; who is first changes at every round.

    Args:
        candidate: serialised ONNX.
        against: serialised ONNX of the next higher precision.
        inputs: input tensors of some frames, taken in turn.
        config: rounds and threads.
        names: the form, the candidate, and what it is held against.

    Raises:
        EngineError: a model does not run.

    """
    emitter, name, other = names
    # Threads that wait by spinning would take the other model's time.
    still = {"session.intra_op.allow_spinning": "0"}
    options = OrtOptions(intra_op_threads=config.threads, session_config=still)
    taken: tuple[list[int], list[int]] = ([], [])
    with (
        closing(OnnxRuntimeEngine(candidate, options)) as first,
        closing(OnnxRuntimeEngine(against, options)) as second,
    ):
        engines = (first, second)
        for number in track(
            range(-WARM_UP, config.rounds), f"speed: {emitter} {name} against {other}"
        ):
            tensors = inputs[number % len(inputs)]
            for which in (0, 1) if number % 2 else (1, 0):
                spent = engines[which].run(tensors).timing.execute_ns
                if number >= 0:
                    taken[which].append(spent)
        engine = first.description
    milliseconds = tuple(np.asarray(one, np.float64) / 1e6 for one in taken)
    return SpeedRecord(
        emitter=emitter,
        candidate=name,
        sha256=sha256_bytes(candidate),
        against=other,
        engine=engine,
        threads=config.threads,
        rounds=config.rounds,
        candidate_ms=spread(milliseconds[0]),
        against_ms=spread(milliseconds[1]),
    )


def spread(values: Sequence[float] | np.typing.NDArray[np.float64]) -> Spread:
    """Return the least and the quartiles of at least one value."""
    found = np.percentile(np.asarray(values, np.float64), (0, 25, 50, 75))
    return Spread(*map(float, found))
