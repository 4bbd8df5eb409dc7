# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA ModelOpt's ONNX quantiser; runs in its own environment, without av_compress.

python drive_modelopt.py MODEL.onnx CALIBRATION.npz OUTPUT.onnx OPTIONS.json
"""

import json
import sys
from pathlib import Path

import numpy as np
from modelopt.onnx.quantization import quantize


def main() -> None:
    model, calibration, output, options = sys.argv[1:]
    chosen = json.loads(Path(options).read_text(encoding="utf-8"))
    with np.load(calibration) as stored:
        # One batch: [samples, 1, ...] -> [samples, ...], which ModelOpt splits by the input's own.
        data = {name: np.concatenate(stored[name]) for name in stored.files}
    quantize(
        model,
        quantize_mode="int8",
        calibration_data=data,
        calibration_method=chosen["method"],
        calibration_eps=["cpu"],
        output_path=output,
        # As everywhere in the comparison: FP32 around what is INT8.
        high_precision_dtype="fp32",
    )


if __name__ == "__main__":
    main()
