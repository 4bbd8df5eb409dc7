# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration runs: the FP32 model over samples, its tensors watched by observers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from av_compress.compress.graph import GraphIndex
from av_compress.compress.observe.observers import HistogramObserver
from av_compress.compress.optimize.proof import refuse_foreign
from av_compress.errors import DataError, ModelError
from av_compress.tensors import Array, Tensors


class Calibrator:
    """Runs a model and observes some of its tensors.

    Tensors of one sample are alive at a time, in memory that is reused for the next. Graph inputs
    are observed where they come in, without a round through the model.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], threads: int = 0) -> None:
        """Prepare.

        Args:
            model: FP32 model with inferred shapes.
            tensors: names of float tensors: graph inputs or outputs of nodes.
            threads: of ONNX Runtime and of the observers; 0 takes every core.

        Raises:
            ModelError: a tensor is not in the model, or the model does not load.

        """
        inputs = {value.name for value in model.graph.input}
        made = {name for node in model.graph.node for name in node.output}
        unknown = [name for name in tensors if name not in inputs | made]
        if unknown:
            raise ModelError(f"the model has no tensor {', '.join(unknown)}")
        self._inputs = tuple(name for name in tensors if name in inputs)
        self._observers = {name: HistogramObserver() for name in tensors}
        inner = [name for name in tensors if name not in inputs]
        self._watched = _Watched(model, inner, threads) if inner else None
        self._threads = threads or len(os.sched_getaffinity(0))

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
        seen = {name: tensors[name] for name in self._inputs}
        if self._watched is not None:
            seen |= self._watched.run(tensors)
        # Histograms are counted in C, outside the interpreter's lock; each observer has one
        # thread at a time.
        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(self._take, seen.items()):
                pass

    def _take(self, item: tuple[str, Array]) -> None:
        name, array = item
        try:
            self._observers[name].observe(array)
        except DataError as error:
            raise DataError(f"tensor '{name}' {error}") from error


class _Watched:
    """A session that returns inner tensors, in memory of its own that it writes anew every run."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> None:
        self._session = watching_session(model, tensors, threads)
        self._shapes = {node.name: node.shape for node in self._session.get_outputs()}
        self._buffers = {
            name: np.empty(shape, np.float32)
            for name, shape in self._shapes.items()
            # Nothing known of a shape looks like a scalar's.
            if shape and all(isinstance(extent, int) for extent in shape)
        }

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """Return tensor name -> values, valid until the next run."""
        binding = self._session.io_binding()
        for name, array in tensors.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in self._shapes:
            buffer = self._buffers.get(name)
            if buffer is None:
                binding.bind_output(name, "cpu")
            else:
                address = buffer.ctypes.data
                binding.bind_output(name, "cpu", 0, np.float32, buffer.shape, address)
        self._session.run_with_iobinding(binding)
        values = zip(self._shapes, binding.get_outputs())
        return {
            name: self._buffers[name] if name in self._buffers else value.numpy()
            for name, value in values
        }


class MagnitudeProbe:
    """Finds the largest magnitude of every float tensor of a model over samples.

    Cheaper than observers, and for all tensors: what FP16 cannot hold is decided by it.
    """

    def __init__(self, model: onnx.ModelProto, threads: int = 0) -> None:
        """Prepare; see `Calibrator` for the arguments and errors."""
        index = GraphIndex(model)
        made = [name for node in index.graph.node for name in node.output]
        self._names = [name for name in made if name and index.is_float(name)]
        self._session = watching_session(model, self._names, threads)
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
                # What is no number fits nowhere, and would not stand out by its size.
                largest = np.inf if np.isnan(largest) else largest
                self._largest[name] = max(self._largest.get(name, 0.0), largest)


def watching_session(model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> Any:
    """Open a session whose outputs are `tensors`.

    Raises:
        ModelError: the model does not load.

    """
    refuse_foreign(model)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    del watched.graph.output[:]
    watched.graph.output.extend(
        known.get(name, onnx.ValueInfoProto(name=name)) for name in tensors
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # A pattern would hold memory for everything at once, though outputs have theirs already.
    options.enable_mem_pattern = False
    try:
        return ort.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        raise ModelError(f"the model cannot be calibrated: {error}") from error
