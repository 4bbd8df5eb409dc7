# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""NNCF on ONNX models; runs in its own environment, without av_compress.

python drive_nncf.py MODEL.onnx CALIBRATION.npz OUTPUT.onnx OPTIONS.json

With accuracy control the metric is another process's: a request `{"model": PATH, "samples":
[...]}` a line on stdout, the metric a line on stdin.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx
from nncf.quantization.advanced_parameters import (
    AdvancedQuantizationParameters,
    QuantizationParameters,
)

PRESETS = {
    "performance": nncf.QuantizationPreset.PERFORMANCE,
    "mixed": nncf.QuantizationPreset.MIXED,
}
Sample = tuple[int, dict[str, np.ndarray]]


def read_samples(path: str) -> list[Sample]:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    count = len(next(iter(arrays.values())))
    return [(i, {name: array[i] for name, array in arrays.items()}) for i in range(count)]


class Scorer:
    """Asks the process that started this one for the metric of a model."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "candidate.onnx"
        self.requests = os.fdopen(os.dup(1), "w")
        # Whatever else is printed must not be taken for a request.
        os.dup2(2, 1)

    def __call__(self, model: onnx.ModelProto, samples: Any) -> tuple[float, list[float]]:
        numbers = [int(number) for number, _ in samples]
        onnx.save(model, self.path)
        request = {"model": str(self.path), "samples": numbers}
        print(json.dumps(request), file=self.requests, flush=True)
        metric = float(sys.stdin.readline())
        # NNCF picks samples for its ranking by their own metric; all of them are few enough.
        return metric, [metric] * len(numbers)


def parameters(chosen: dict[str, Any]) -> AdvancedQuantizationParameters:
    found = AdvancedQuantizationParameters()
    if chosen["activations"] == "per_tensor":
        # It refuses to make them signed as well.
        found.activations_quantization_params = QuantizationParameters(per_channel=False)
    return found


def main() -> None:
    path, calibration, output, options = sys.argv[1:]
    chosen = json.loads(Path(options).read_text(encoding="utf-8"))
    samples = read_samples(calibration)
    data = nncf.Dataset(samples, lambda sample: sample[1])
    how = {
        "preset": PRESETS[chosen["preset"]],
        "subset_size": len(samples),
        "fast_bias_correction": chosen["fast_bias_correction"],
    }
    model = onnx.load(path)
    if chosen["max_drop"] is None:
        found = nncf.quantize(model, data, advanced_parameters=parameters(chosen), **how)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = nncf.quantize_with_accuracy_control(
                model,
                data,
                data,
                Scorer(folder),
                max_drop=chosen["max_drop"],
                advanced_quantization_parameters=parameters(chosen),
                **how,
            )
    onnx.save(found, output)


if __name__ == "__main__":
    main()
