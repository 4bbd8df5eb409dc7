# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""NNCF on OpenVINO's form of a model; runs in its own environment, without av_compress.

python drive_openvino.py MODEL.onnx CALIBRATION.npz OUTPUT.xml OPTIONS.json
"""

import json
import sys
from pathlib import Path

import nncf
import numpy as np
import openvino


def main() -> None:
    path, calibration, output, options = sys.argv[1:]
    chosen = json.loads(Path(options).read_text(encoding="utf-8"))
    with np.load(calibration) as stored:
        arrays = {name: stored[name] for name in stored.files}
    count = len(next(iter(arrays.values())))
    samples = [{name: array[i] for name, array in arrays.items()} for i in range(count)]
    found = nncf.quantize(
        # Not read_model: only the conversion joins Sigmoid and Mul, which NNCF then leaves whole.
        openvino.convert_model(path),
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset[chosen["preset"].upper()],
        subset_size=count,
    )
    openvino.save_model(found, output, compress_to_fp16=False)


if __name__ == "__main__":
    main()
