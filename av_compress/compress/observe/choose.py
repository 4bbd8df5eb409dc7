# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The threshold method of each tensor, chosen by how far it moves what the model says.

How far the rounding of one tensor moves the nodes that read it says little of how far it moves the
outputs: on real detectors a few tensors make nearly all of the error, and they are not those whose
consumers move most. So every tensor is rounded alone, with its threshold by MSE; those that move
the outputs most try the other methods.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from av_compress.compress.emit.insertion import symmetric_activation
from av_compress.compress.graph import GraphIndex
from av_compress.compress.observe.observers import HistogramObserver
from av_compress.compress.observe.thresholds import ThresholdMethod, find_range
from av_compress.compress.search.sensitivity import output_error
from av_compress.errors import ModelError
from av_compress.progress import track
from av_compress.tensors import Array, Tensors

PERCENTILES = (99.9, 99.99, 99.999)
# Other methods are tried on the tensors that make this share of the error together, at most on
# this share of all tensors.
COVERED = 0.95
MOST = 0.2

# The method that every tensor starts with.
_FIRST = ThresholdMethod.MSE.value
_SCALE, _ZERO, _INTEGERS, _ROUNDED = (f"av_compress_trial_{n}" for n in ("s", "z", "q", "x"))

Range = tuple[float, float]
Outputs = list[Array]


@dataclass(frozen=True)
class Choice:
    """What was chosen for a tensor.

    Attributes:
        range: lowest and highest value represented.
        method: what made it, e.g. `mse` or `percentile 99.99`.
        errors: each method that was tried -> squared error of the model's outputs with this tensor
            alone rounded, relative to their variance.

    """

    range: Range
    method: str
    errors: Mapping[str, float]


def choose_ranges(
    model: onnx.ModelProto,
    observers: Mapping[str, HistogramObserver],
    frames: Sequence[Tensors],
    threads: int = 0,
) -> dict[str, Choice]:
    """Choose the range of every observed tensor, for signed 8 bits.

    A tensor is rounded where weighted nodes read it, since they are what INT8 is for; where none
    does, for whoever reads it. Memory holds the frames, and the model once for each thread.

    Args:
        model: FP32 model with inferred shapes.
        observers: tensor name -> statistics, over more frames than these.
        frames: input tensors of a few frames.
        threads: how many tensors are tried at a time; 0 takes every core.

    Raises:
        ModelError: the model does not load.

    """
    trials = _Trials(model, frames)
    candidates = {name: _candidates(observer) for name, observer in observers.items()}
    with _workers(threads) as pool:
        first = {name: {_FIRST: ranges[_FIRST]} for name, ranges in candidates.items()}
        errors = _measure(pool, trials, first, "round each tensor alone")
        dearest = _dearest({name: found[_FIRST] for name, found in errors.items()})
        others = {
            name: {m: limits for m, limits in candidates[name].items() if m != _FIRST}
            for name in dearest
        }
        for name, found in _measure(pool, trials, others, "try other thresholds").items():
            errors[name] |= found
    return {name: _choice(candidates[name], errors[name]) for name in observers}


@contextmanager
def _workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)))
    try:
        yield pool
    finally:
        # Whoever interrupts does not wait for what has not begun.
        pool.shutdown(cancel_futures=True)


def _candidates(observer: HistogramObserver) -> dict[str, Range]:
    """Return method -> range; of methods that agree, the first."""
    named = {
        method.value: find_range(observer, method)
        for method in (ThresholdMethod.MSE, ThresholdMethod.ENTROPY, ThresholdMethod.MINMAX)
    }
    for percentile in PERCENTILES:
        named[f"percentile {percentile:g}"] = find_range(
            observer, ThresholdMethod.PERCENTILE, percentile
        )
    names = {limits: name for name, limits in reversed(named.items())}
    return {name: limits for name, limits in named.items() if names[limits] == name}


def _measure(
    pool: ThreadPoolExecutor,
    trials: _Trials,
    wanted: Mapping[str, Mapping[str, Range]],
    label: str,
) -> dict[str, dict[str, float]]:
    """Return tensor name -> method -> error."""
    found = pool.map(trials.errors, wanted, wanted.values())
    return dict(zip(wanted, track(found, label, len(wanted))))


def _dearest(errors: Mapping[str, float]) -> list[str]:
    """Return the tensors that make most of the error, the dearest first."""
    ranked = sorted(errors, key=lambda name: (-errors[name], name))
    sums = np.cumsum([errors[name] for name in ranked])
    if not len(sums) or sums[-1] == 0:
        return []
    enough = int(np.searchsorted(sums, COVERED * sums[-1])) + 1
    return ranked[: min(enough, max(1, int(MOST * len(ranked))))]


def _choice(candidates: Mapping[str, Range], errors: Mapping[str, float]) -> Choice:
    best = min(errors, key=lambda method: errors[method])
    return Choice(candidates[best], best, errors)


class _Trials:
    """A model of which one tensor at a time is rounded, and what it says otherwise."""

    def __init__(self, model: onnx.ModelProto, frames: Sequence[Tensors]) -> None:
        self._model, self._frames = model, frames
        self._index = GraphIndex(model)
        self._exact = _run(_open(model), [dict(tensors) for tensors in frames])

    def errors(self, tensor: str, ranges: Mapping[str, Range]) -> dict[str, float]:
        """Return method -> squared error of the outputs, relative to their variance."""
        consumers = self._consumers(tensor)
        if not consumers:
            return dict.fromkeys(ranges, 0.0)
        session = _open(self._with_pair(tensor, consumers))
        found = {}
        for method, limits in ranges.items():
            scale = symmetric_activation(*limits).scale
            got = _run(session, [{**tensors, _SCALE: scale} for tensors in self._frames])
            found[method] = _moved(self._exact, got)
        return found

    def _consumers(self, tensor: str) -> frozenset[str]:
        """Name the weighted nodes that read a tensor as their activation, else all readers."""
        readers = self._index.consumers.get(tensor, ())
        weighted = [
            node.name
            for node in readers
            if self._index.weight(node) is not None and node.input[0] == tensor
        ]
        return frozenset(weighted or [node.name for node in readers])

    def _with_pair(self, tensor: str, consumers: frozenset[str]) -> onnx.ModelProto:
        """Return the model with a pair before some consumers; its scale is an input."""
        changed = onnx.ModelProto()
        changed.CopyFrom(self._model)
        graph = changed.graph
        places = [place for place, node in enumerate(graph.node) if node.name in consumers]
        for place in places:
            node = graph.node[place]
            node.input[:] = [_ROUNDED if name == tensor else name for name in node.input]
        parameters = [_SCALE, _ZERO]
        quantise = helper.make_node("QuantizeLinear", [tensor, *parameters], [_INTEGERS])
        restore = helper.make_node("DequantizeLinear", [_INTEGERS, *parameters], [_ROUNDED])
        graph.node.insert(places[0], restore)
        graph.node.insert(places[0], quantise)
        graph.input.append(helper.make_tensor_value_info(_SCALE, TensorProto.FLOAT, []))
        graph.initializer.append(helper.make_tensor(_ZERO, TensorProto.INT8, [], [0]))
        return changed


def _open(model: onnx.ModelProto) -> Any:
    options = ort.SessionOptions()
    # Tensors are tried side by side instead.
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        raise ModelError(f"thresholds cannot be tried on the model: {error}") from error


def _run(session: Any, frames: Sequence[dict[str, Array]]) -> list[Outputs]:
    return list(map(partial(session.run, None), frames))


def _moved(exact: Sequence[Outputs], got: Sequence[Outputs]) -> float:
    """Return the error of the outputs; infinite where they cannot be compared."""
    pairs = [pair for frames in zip(exact, got) for pair in zip(*frames)]
    # Behind a suppression of overlaps, the number of rows may change.
    if any(left.shape != right.shape for left, right in pairs):
        return float("inf")
    error = output_error(exact, got) if exact else 0.0
    return error if np.isfinite(error) else float("inf")
