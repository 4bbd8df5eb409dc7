# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a plan's model in ONNX Runtime, from and to raw addresses."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime

from trt_stand_in.graph import infer_shapes

# BF16 and FP8 are carried as their bits.
DTYPES: dict[str, Any] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "BF16": np.uint16,
    "FP8": np.uint8,
}


def read_memory(address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return a copy of what lies at an address."""
    made = np.empty(shape, DTYPES[dtype])
    ctypes.memmove(made.ctypes.data, address, made.nbytes)
    return made


def write_memory(address: int, value: np.ndarray) -> None:
    """Write an array to an address."""
    whole = np.ascontiguousarray(value)
    ctypes.memmove(address, whole.ctypes.data, whole.nbytes)


def bytes_of(shape: tuple[int, ...], dtype: str) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(DTYPES[dtype]).itemsize


@dataclass
class Program:
    """A model that can be run.

    Attributes:
        model: the model.
        session: ONNX Runtime's, with pairs computed as they are written.

    """

    model: onnx.ModelProto
    session: Any

    @staticmethod
    def of(data: bytes) -> Program:
        """Load a model."""
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return Program(onnx.load_from_string(data), session)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run; types that TensorRT narrows are widened for the model."""
        wanted = {one.name: _NUMPY[one.type] for one in self.session.get_inputs()}
        ready = {name: value.astype(wanted[name], copy=False) for name, value in feeds.items()}
        names = [one.name for one in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, ready)))

    def shapes(self, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return extents of all tensors for these of the inputs; -1 where data decides."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for value in model.graph.input:
            if value.name in inputs:
                dims = value.type.tensor_type.shape
                del dims.dim[:]
                for extent in inputs[value.name]:
                    dims.dim.add().dim_value = extent
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        return infer_shapes(model)


_NUMPY = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
