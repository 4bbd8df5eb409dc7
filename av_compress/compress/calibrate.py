# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration runs: the FP32 model over samples, its tensors watched by observers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnxruntime as ort

from av_compress.compress.graph import GraphIndex
from av_compress.compress.observers import HistogramObserver
from av_compress.errors import DataError, ModelError
from av_compress.tensors import Array, Tensors


class Calibrator:
    """Runs a model and observes some of its tensors.

    Only one sample's tensors are alive at any time: each array is dropped as soon as its observer
    has seen it. Graph inputs are observed where they come in, without a round through the model.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], threads: int = 0) -> None:
        """Prepare.

        Args:
            model: FP32 model with static shapes known to shape inference.
            tensors: names of float tensors: graph inputs or outputs of nodes.
            threads: of ONNX Runtime; 0 takes every core.

        Raises:
            ModelError: a tensor is not in the model, or the model does not load.

        """
        inputs = {value.name for value in model.graph.input}
        made = {name for node in model.graph.node for name in node.output}
        unknown = [name for name in tensors if name not in inputs | made]
        if unknown:
            raise ModelError(f"the model has no tensor {', '.join(unknown)}")
        self._inputs = tuple(name for name in tensors if name in inputs)
        self._inner = tuple(name for name in tensors if name not in inputs)
        self._observers = {name: HistogramObserver() for name in tensors}
        self._session = _session(model, self._inner, threads) if self._inner else None

    @property
    def observers(self) -> Mapping[str, HistogramObserver]:
        """Tensor name -> what was observed."""
        return self._observers

    def observe(self, tensors: Tensors) -> None:
        """Run one sample.

        Args:
            tensors: input name -> array.

        Raises:
            DataError: an input or an activation is not finite; the tensor is named.

        """
        for name in self._inputs:
            self._take(name, tensors[name])
        if self._session is None:
            return
        values = self._session.run_with_ort_values(
            self._inner,
            {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in tensors.items()},
        )
        # Reversed, so that popping frees each tensor before the next one is copied out.
        values.reverse()
        for name in self._inner:
            self._take(name, values.pop().numpy())

    def merge(self, other: Calibrator) -> None:
        """Take in what another run over the same model and tensors has observed."""
        for name, observer in other.observers.items():
            self._observers[name].merge(observer)

    def _take(self, name: str, array: Array) -> None:
        try:
            self._observers[name].observe(array)
        except DataError as error:
            raise DataError(f"tensor '{name}' {error}") from error


def _session(model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> Any:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Without these, the runtime keeps the largest block that it ever needed for every size.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    try:
        return ort.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        raise ModelError(f"the model cannot be calibrated: {error}") from error


class MagnitudeProbe:
    """Finds the largest magnitude of every float tensor of a model over samples.

    Cheaper than observers, and for all tensors: what FP16 cannot hold is decided by it.
    """

    def __init__(self, model: onnx.ModelProto, threads: int = 0) -> None:
        """Prepare; see `Calibrator` for the arguments and errors."""
        index = GraphIndex(model)
        made = [name for node in index.graph.node for name in node.output]
        self._names = [name for name in made if name and index.is_float(name)]
        self._session = _session(model, self._names, threads)
        self._largest: dict[str, float] = {}

    @property
    def magnitudes(self) -> Mapping[str, float]:
        """Tensor name -> largest magnitude so far, graph inputs included."""
        return self._largest

    def observe(self, tensors: Tensors) -> None:
        """Run one sample; see `Calibrator.observe`."""
        values = self._session.run(self._names, dict(tensors))
        for name, array in (*tensors.items(), *zip(self._names, values)):
            if array.size:
                largest = max(float(array.max()), -float(array.min()))
                self._largest[name] = max(self._largest.get(name, 0.0), largest)
