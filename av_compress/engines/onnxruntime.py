# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The ONNX Runtime backend, on the CPU and on CUDA."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from av_compress.engines.base import RunResult, RunTiming
from av_compress.errors import EngineError
from av_compress.tensors import Array, Tensors, TensorSpec

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

# Drops an activation in front of QuantizeLinear: right for integers whose zero point is the lowest
# one, but FP8 is mistaken for such (seen in 1.32).
UNSOUND_REWRITES = ("ReluQuantRewrite",)

_DTYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class OrtOptions:
    """How ONNX Runtime runs a model.

    Attributes:
        providers: execution providers, best first; those absent from the installed ONNX Runtime
            are refused, not skipped.
        intra_op_threads: threads inside an operator; 0 lets ONNX Runtime take every core.
        inter_op_threads: threads across operators.
        provider_options: provider name -> its options.
        session_config: ONNX Runtime's own session configuration entries.
        exact_quantization: compute every Q/DQ pair as written, in float, instead of fusing it
            into integer kernels. CPUs without VNNI saturate in fused signed kernels, so a model
            meant for TensorRT is judged this way.
        profile: beginning of a path; ONNX Runtime writes its profile behind it. Empty: none.

    """

    providers: tuple[str, ...] = (CPU,)
    intra_op_threads: int = 0
    inter_op_threads: int = 1
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    session_config: Mapping[str, str] = field(default_factory=dict)
    exact_quantization: bool = False
    profile: str = ""

    def session_options(self) -> Any:
        """Return these options in ONNX Runtime's own form."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.intra_op_threads
        options.inter_op_num_threads = self.inter_op_threads
        options.log_severity_level = 3
        if self.exact_quantization:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if self.profile:
            options.enable_profiling = True
            options.profile_file_prefix = self.profile
        for key, value in self.session_config.items():
            options.add_session_config_entry(key, value)
        return options


class OnnxRuntimeEngine:
    """A model in an ONNX Runtime session.

    Inputs are read in place. Outputs of static shape are written into arrays that the engine owns
    and reuses, so a result is valid until the next run.
    """

    def __init__(self, model: Path | bytes, options: OrtOptions | None = None) -> None:
        """Load `model`, a file or serialised ONNX.

        Raises:
            EngineError: a provider is absent, or ONNX Runtime refuses the model.

        """
        options = options or OrtOptions()
        self._session: Any = _open_session(model, options)
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        provider = self._session.get_providers()[0]
        self.description = f"ONNX Runtime {ort.__version__}, {provider}"
        self._device = "cuda" if provider == CUDA else "cpu"
        self._buffers = {
            spec.name: np.empty(shape, spec.dtype)
            for spec in self.outputs
            if self._device == "cpu" and (shape := spec.static_shape) is not None
        }

    def run(self, tensors: Tensors) -> RunResult:
        """Run once; see `Engine.run`."""
        if self._session is None:
            raise EngineError("the engine is closed")
        binding = self._session.io_binding()
        started = time.perf_counter_ns()
        self._bind_inputs(binding, tensors)
        for spec in self.outputs:
            self._bind_output(binding, spec)
        bound = time.perf_counter_ns()
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's errors have no common base class.
            raise EngineError(f"ONNX Runtime failed: {_first_line(error)}") from error
        executed = time.perf_counter_ns()
        outputs = self._collect(binding)
        finished = time.perf_counter_ns()
        return RunResult(
            outputs, RunTiming(bound - started, executed - bound, finished - executed)
        )

    def end_profile(self) -> Path:
        """Write the profile of all runs until now, which `OrtOptions.profile` asked for."""
        return Path(self._session.end_profiling())

    def close(self) -> None:
        """Free the session and the output buffers."""
        self._session = None
        self._buffers = {}

    def _bind_inputs(self, binding: Any, tensors: Tensors) -> None:
        for spec in self.inputs:
            array = tensors.get(spec.name)
            if array is None:
                raise EngineError(f"input {spec} is missing; given: {', '.join(sorted(tensors))}")
            if not spec.accepts(array):
                raise EngineError(f"input {spec} does not accept {array.dtype} {array.shape}")
            array = np.ascontiguousarray(array)
            if self._device == "cpu":
                binding.bind_cpu_input(spec.name, array)
            else:
                binding.bind_ortvalue_input(
                    spec.name, ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)
                )

    def _bind_output(self, binding: Any, spec: TensorSpec) -> None:
        buffer = self._buffers.get(spec.name)
        if buffer is None:
            binding.bind_output(spec.name, self._device)
        else:
            binding.bind_output(
                spec.name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data
            )

    def _collect(self, binding: Any) -> dict[str, Array]:
        values = binding.get_outputs()
        return {
            spec.name: self._buffers[spec.name] if spec.name in self._buffers else value.numpy()
            for spec, value in zip(self.outputs, values)
        }


def _open_session(model: Path | bytes, options: OrtOptions) -> Any:
    missing = [name for name in options.providers if name not in ort.get_available_providers()]
    if missing:
        raise EngineError(
            f"provider {', '.join(missing)} is not in this ONNX Runtime {ort.__version__}; "
            f"available: {', '.join(ort.get_available_providers())}"
        )
    providers = [
        (name, dict(options.provider_options.get(name, {}))) for name in options.providers
    ]
    try:
        return ort.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options.session_options(),
            providers=providers,
            disabled_optimizers=UNSOUND_REWRITES if options.exact_quantization else None,
        )
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        where = "the model" if isinstance(model, bytes) else str(model)
        raise EngineError(f"ONNX Runtime cannot load {where}: {_first_line(error)}") from error


def _spec(node: Any) -> TensorSpec:
    if node.type not in _DTYPES:
        raise EngineError(f"tensor {node.name} has type {node.type}, which is not supported")
    shape = tuple(extent if isinstance(extent, int) else None for extent in node.shape)
    return TensorSpec(node.name, shape, np.dtype(_DTYPES[node.type]))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
