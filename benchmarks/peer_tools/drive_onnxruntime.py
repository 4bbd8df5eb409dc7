# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's quantize_static; runs in its own environment, without av_compress.

python drive_onnxruntime.py MODEL.onnx CALIBRATION.npz OUTPUT.onnx OPTIONS.json
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)


class Reader(CalibrationDataReader):
    def __init__(self, path: str) -> None:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        count = len(next(iter(arrays.values())))
        self.samples = iter([{n: a[i] for n, a in arrays.items()} for i in range(count)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.samples, None)


def main() -> None:
    model, calibration, output, options = sys.argv[1:]
    chosen = json.loads(Path(options).read_text(encoding="utf-8"))
    signed = chosen["activations"] == "int8"
    quantize_static(
        model,
        output,
        Reader(calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=chosen["reduce_range"],
        activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[chosen["method"]],
        extra_options={"ActivationSymmetric": signed, "WeightSymmetric": True},
    )


if __name__ == "__main__":
    main()
