# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The forms of a model that a bundle can hold, and what runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ONNXRUNTIME = "onnxruntime"
BACKENDS = (ONNXRUNTIME, "tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class Form:
    """A form of a compressed model.

    Attributes:
        quantised: what a quantised node computes in, as manifests say it: `int8`, `fp8`, or
            `int8_weights` where only the weights are integers and the arithmetic is FP32.
        half: what is not quantised can be FP16, by its type or by the builder's flag.
        simulated: made for a device that the CPU only simulates: every pair of Q and DQ is
            computed as it stands, since fused kernels of CPUs without VNNI saturate. What it takes
            there says nothing of the device.
        exact: every pair is to be computed as it stands on any device. ONNX Runtime makes stored
            weights float once, when it loads a model, only where it is told so, and rewrites FP8
            wrongly where it is not.

    """

    quantised: str = "int8"
    half: bool = False
    simulated: bool = False
    exact: bool = False

    def precision(self, planned: str) -> str:
        """Return what a node computes in, as manifests say it, for what a plan says of it."""
        return self.quantised if planned == "int8" else planned

    def computes_pairs(self, on_gpu: bool) -> bool:
        """Tell whether ONNX Runtime must not fuse pairs of Q and DQ."""
        return self.exact or (self.simulated and not on_gpu)


FORMS: Mapping[str, Form] = {
    "tensorrt": Form(half=True, simulated=True),
    "tensorrt_8": Form(half=True, simulated=True),
    "tensorrt_fp8": Form("fp8", half=True, simulated=True, exact=True),
    "cpu": Form(),
    "cpu_dynamic": Form(),
    "weight_only": Form("int8_weights", exact=True),
}

# The forms in the order in which a provider gains by them.
ON_CPU = ("cpu", "cpu_dynamic", "weight_only", "tensorrt", "tensorrt_8", "tensorrt_fp8")
ON_GPU = ("tensorrt", "tensorrt_8", "weight_only", "cpu", "cpu_dynamic", "tensorrt_fp8")
