# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The threshold method of each tensor, chosen by what its consumers make of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from av_compress.compress.graph import GraphIndex
from av_compress.compress.observe.calibrate import watching_session
from av_compress.compress.observe.observers import HistogramObserver
from av_compress.compress.observe.thresholds import LEVELS, ThresholdMethod, find_range
from av_compress.errors import ModelError
from av_compress.tensors import Array, Tensors

PERCENTILES = (99.9, 99.99, 99.999)

Range = tuple[float, float]


@dataclass(frozen=True)
class Choice:
    """What was chosen for a tensor.

    Attributes:
        range: lowest and highest value represented.
        method: what made it, e.g. `mse` or `percentile 99.99`.
        errors: method -> squared error of the consumers' results with this tensor alone
            quantised, relative to their squares; the mean over the consumers.

    """

    range: Range
    method: str
    errors: Mapping[str, float]


def choose_ranges(
    model: onnx.ModelProto,
    observers: Mapping[str, HistogramObserver],
    frames: Iterable[Tensors],
    threads: int = 0,
) -> dict[str, Choice]:
    """Choose, for every observed tensor, the range whose quantisation moves its consumers least.

    Consumers are the weighted nodes that read the tensor, since they are what INT8 is for; where
    there is none, whoever reads it. Each is run by itself on the activations of one frame at a
    time, so that memory does not grow with the frames.

    Args:
        model: FP32 model with inferred shapes.
        observers: tensor name -> statistics, over more frames than these.
        frames: input tensors of a few frames.
        threads: how many tensors are tried at a time; 0 takes every core.

    Raises:
        ModelError: the model, or one of its nodes alone, does not load.

    """
    index = GraphIndex(model)
    trials = [_Trial(index, name, _candidates(seen)) for name, seen in observers.items()]
    made = [name for name in _read_by(trials) if name in index.producers]
    session = watching_session(model, made, threads) if made else None
    for tensors in frames:
        values: dict[str, Array] = dict(tensors)
        if session is not None:
            values.update(zip(made, session.run(made, dict(tensors))))
        # ONNX Runtime and NumPy compute outside the interpreter's lock.
        with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
            for _ in pool.map(_Trial.observe, trials, repeat(values)):
                pass
    return {trial.tensor: trial.choice() for trial in trials}


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


def _read_by(trials: Sequence[_Trial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.inputs))


class _Trial:
    """Tries the candidates of one tensor on its consumers."""

    def __init__(self, index: GraphIndex, tensor: str, candidates: Mapping[str, Range]) -> None:
        self.tensor = tensor
        self._candidates = candidates
        # One candidate needs no trial.
        consumers = _consumers(index, tensor) if len(candidates) > 1 else []
        self._consumers = [_Consumer(index, node) for node in consumers]
        self.inputs = [name for consumer in self._consumers for name in consumer.inputs]
        self._errors = {name: np.zeros(len(self._consumers)) for name in candidates}
        self._power = np.zeros(len(self._consumers))

    def observe(self, values: Tensors) -> None:
        if not self._consumers:
            return
        exact = [consumer.run(values) for consumer in self._consumers]
        self._power += [_square(result) for result in exact]
        for name, limits in self._candidates.items():
            changed = {**values, self.tensor: _rounded(values[self.tensor], limits)}
            got = [consumer.run(changed) for consumer in self._consumers]
            self._errors[name] += [_square(a - b) for a, b in zip(got, exact)]

    def choice(self) -> Choice:
        shares = {
            # A consumer whose result is always zero is moved by nothing.
            name: float(np.mean(error / np.maximum(self._power, np.finfo(np.float64).tiny)))
            if error.size
            else 0.0
            for name, error in self._errors.items()
        }
        best = min(shares, key=lambda name: shares[name])
        return Choice(self._candidates[best], best, shares)


class _Consumer:
    """A node by itself."""

    def __init__(self, index: GraphIndex, node: onnx.NodeProto) -> None:
        names = list(dict.fromkeys(name for name in node.input if name))
        constants = [index.constants[name] for name in names if name in index.constants]
        self.inputs = [name for name in names if name not in index.constants]
        self._output = node.output[0]
        self._session = _alone(index, node, self.inputs, constants)

    def run(self, values: Tensors) -> Array:
        feeds = {name: values[name] for name in self.inputs}
        result: Array = self._session.run([self._output], feeds)[0]
        return result


def _alone(
    index: GraphIndex,
    node: onnx.NodeProto,
    inputs: Sequence[str],
    constants: Sequence[onnx.TensorProto],
) -> Any:
    """Open a session of one node."""
    types = {name: index.types[name].elem_type for name in inputs if name in index.types}
    border = [
        helper.make_tensor_value_info(name, types.get(name, onnx.TensorProto.FLOAT), None)
        for name in inputs
    ]
    result = onnx.ValueInfoProto(name=node.output[0])
    graph = helper.make_graph([node], "node", border, [result], list(constants))
    model = helper.make_model(
        graph, opset_imports=index.model.opset_import, ir_version=index.model.ir_version
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        raise ModelError(f"node {node.name} cannot be run by itself: {error}") from error


def _consumers(index: GraphIndex, tensor: str) -> list[onnx.NodeProto]:
    """Return the weighted nodes that read a tensor as their activation, else all that read it."""
    readers = [
        node
        for node in index.consumers.get(tensor, ())
        # What reads only a shape is moved by no value; what has a graph inside cannot stand alone.
        if node.op_type != "Shape" and not any(a.HasField("g") for a in node.attribute)
    ]
    weighted = [
        node for node in readers if index.weight(node) is not None and node.input[0] == tensor
    ]
    return weighted or readers


def _rounded(values: Array, limits: Range) -> Array:
    """Quantise to signed 8 bits, zero at zero, and back; float32."""
    step = np.float32(max(abs(limits[0]), abs(limits[1])) / (LEVELS - 1))
    steps = np.clip(np.rint(values / step), -LEVELS, LEVELS - 1)
    return np.asarray(steps * step, np.float32)


def _square(values: Array) -> float:
    exact = values.astype(np.float64, copy=False)
    return float((exact * exact).sum())
