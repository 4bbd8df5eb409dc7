# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime's profile says of each node.

Its file is a list of events (https://onnxruntime.ai/docs/performance/tune-performance/
profiling-tools.html). A node's run is one of category `Node`, called after the node with the
ending `_kernel_time`; `dur` is microseconds, `args` has the operator and the types of its inputs.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from av_compress.engines.layer_times import LayerTime, layer_times
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.errors import EngineError
from av_compress.tensors import Tensors

_ENDING = "_kernel_time"
_US_PER_MS = 1000


def profile_model(
    model: bytes, options: OrtOptions, tensors: Tensors, runs: int
) -> tuple[LayerTime, ...]:
    """Time each node of a model, in a session of its own, which the profile makes slower.

    Args:
        model: serialised ONNX.
        options: how ONNX Runtime runs it.
        tensors: its inputs.
        runs: how many count; one before does not.

    Raises:
        EngineError: the model does not run, or the profile cannot be read.

    """
    with tempfile.TemporaryDirectory() as folder:
        profiled = replace(options, profile=str(Path(folder) / "profile"))
        with closing(OnnxRuntimeEngine(model, profiled)) as engine:
            for _ in range(1 + runs):
                engine.run(tensors)
            text = engine.end_profile().read_text(encoding="utf-8")
    return read_profile(text)


def read_profile(text: str) -> tuple[LayerTime, ...]:
    """Read the nodes out of a profile, the first run of each left out; see `profile_model`."""
    taken: dict[str, list[float]] = {}
    kinds: dict[str, tuple[str, str]] = {}
    try:
        for event in json.loads(text):
            if event["cat"] != "Node" or not event["name"].endswith(_ENDING):
                continue
            name = event["name"].removesuffix(_ENDING)
            taken.setdefault(name, []).append(event["dur"] / _US_PER_MS)
            kinds[name] = (event["args"]["op_name"], _reads(event["args"]))
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"ONNX Runtime's profile cannot be read: {error!r}") from error
    return layer_times({name: values[1:] for name, values in taken.items()}, kinds)


def _reads(args: Mapping[str, Any]) -> str:
    """Return the type of a node's first input: a list of type -> shape, one entry an input."""
    inputs = args.get("input_type_shape") or [{}]
    return str(next(iter(inputs[0]), ""))
