# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Sensitivity: how far a model's outputs move when one node alone is INT8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort

from av_compress.compress.emit.insertion import Ranges
from av_compress.compress.emit.quantize import narrow_plan, quantize
from av_compress.compress.plan.precision import PrecisionPlan
from av_compress.engines.onnxruntime import UNSOUND_REWRITES
from av_compress.errors import ModelError
from av_compress.progress import track
from av_compress.tensors import Array, Tensors


@dataclass(frozen=True)
class NodeSensitivity:
    """What a node in INT8 costs.

    Attributes:
        node: its name.
        macs: its multiply-accumulates for a frame.
        error: squared error of the outputs relative to their variance, the mean over the outputs.

    """

    node: str
    macs: int
    error: float

    @property
    def price(self) -> float:
        """Error for each multiply-accumulate: what is dearest is spared first."""
        return self.error / max(self.macs, 1)


def measure_sensitivity(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    ranges: Ranges,
    emitter: str,
    inputs: Sequence[Tensors],
) -> tuple[NodeSensitivity, ...]:
    """Quantise every INT8 node of a plan alone, and compare the model's outputs with FP32's.

    Args:
        model: prepared FP32 model.
        plan: which nodes to try.
        ranges: for every tensor that the emitter needs.
        emitter: the form to measure.
        inputs: input tensors of some frames.

    Returns:
        one entry for each INT8 node of the plan, the dearest first.

    Raises:
        ModelError: a form does not run.

    """
    plan = narrow_plan(model, plan, emitter).in_fp32()
    reference = _outputs(model, inputs)
    nodes = [node for node in plan.nodes if node.node in plan.quantised()]
    found = []
    for node in track(nodes, f"sensitivity: {emitter}"):
        others = {n.node: "not measured now" for n in nodes if n.node != node.node}
        alone = quantize(model, plan.spared(others), ranges, {}, emitter)
        error = output_error(reference, _outputs(alone, inputs))
        found.append(NodeSensitivity(node.node, node.macs, error))
    return tuple(sorted(found, key=lambda s: (-s.price, s.node)))


def output_error(reference: Sequence[Sequence[Array]], got: Sequence[Sequence[Array]]) -> float:
    """Return the squared error relative to the variance, the mean over the outputs.

    Args:
        reference: for every frame, for every output, an array.
        got: the same of another model.

    """
    shares = []
    for output in range(len(reference[0])):
        exact = [np.asarray(frame[output], np.float64) for frame in reference]
        error = sum(float(((a - b[output]) ** 2).sum()) for a, b in zip(exact, got))
        spread = sum(float(((a - a.mean()) ** 2).sum()) for a in exact)
        shares.append(error / spread if spread else float(error > 0))
    return float(np.mean(shares))


def _outputs(model: onnx.ModelProto, inputs: Sequence[Tensors]) -> list[list[Array]]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Every pair is computed as it stands: the form's own error, not that of some kernel.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = ort.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=UNSOUND_REWRITES,
        )
        return [session.run(None, dict(tensors)) for tensors in inputs]
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        raise ModelError(f"the sensitivity cannot be measured: {error}") from error
