# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A model in a process of its own, one thread; runs in a peer's environment.

python serve.py onnxruntime|openvino MODEL INPUTS.npz

A command a line on stdin, an answer a line on stdout: `time N` runs the first input once and then
N times, and answers the median in milliseconds; `outputs FILE.npz` runs every input and stores
each output as [inputs, ...].
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], dict[str, np.ndarray]]


def open_onnxruntime(path: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds)))


def open_openvino(path: str) -> Run:
    import openvino

    config: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Processors that compute in bfloat16 would be asked for it otherwise.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = openvino.Core().compile_model(path, "CPU", config)
    request = model.create_infer_request()
    names = [output.get_any_name() for output in model.outputs]

    def run(feeds: Feeds) -> dict[str, np.ndarray]:
        request.infer(feeds, share_inputs=True)
        return {name: request.get_tensor(name).data for name in names}

    return run


def timed(run: Run, feeds: Feeds, count: int) -> float:
    taken = []
    for _ in range(count + 1):
        started = time.perf_counter()
        run(feeds)
        taken.append((time.perf_counter() - started) * 1e3)
    return statistics.median(taken[1:])


def main() -> None:
    runtime, path, inputs = sys.argv[1:]
    run = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}[runtime](path)
    with np.load(inputs) as stored:
        arrays = {name: stored[name] for name in stored.files}
    samples = [
        {name: array[i] for name, array in arrays.items()}
        for i in range(len(next(iter(arrays.values()))))
    ]
    for line in sys.stdin:
        command, value = line.rstrip("\n").split(" ", 1)
        if command == "time":
            print(timed(run, samples[0], int(value)), flush=True)
            continue
        found = [{name: array.copy() for name, array in run(feeds).items()} for feeds in samples]
        np.savez(value, **{name: np.stack([one[name] for one in found]) for name in found[0]})
        print("stored", flush=True)


if __name__ == "__main__":
    main()
