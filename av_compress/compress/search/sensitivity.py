# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Sensitivity: what it does to a model when one node alone is INT8."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx
import onnxruntime as ort

from av_compress.compress.plan.precision import PrecisionPlan
from av_compress.compress.search.journal import Journal
from av_compress.engines.onnxruntime import UNSOUND_REWRITES
from av_compress.errors import ModelError
from av_compress.progress import track
from av_compress.tensors import Array, Tensors

# For every frame, for every output, an array.
Outputs = Sequence[Sequence[Array]]


@dataclass(frozen=True)
class NodeSensitivity:
    """What a node in INT8 costs.

    Attributes:
        node: its name.
        macs: its multiply-accumulates for a frame.
        sqnr_db: signal-to-quantisation-noise ratio of what it makes.
        error: squared error of the model's outputs relative to their variance, the mean over the
            outputs.
        shift: how far the task's results move; None where the task has no measure of it.

    """

    node: str
    macs: int
    sqnr_db: float
    error: float
    shift: float | None = None

    @property
    def price(self) -> tuple[float, float]:
        """What it costs for each multiply-accumulate: what is dearest is spared first.

        Independent errors add up in squares. Where results do not move, the outputs decide.
        """
        macs = max(self.macs, 1)
        return (self.shift or 0.0) ** 2 / macs, self.error / macs

    def __lt__(self, other: NodeSensitivity) -> bool:
        """Tell whether this node is cheaper."""
        return self.price < other.price


@dataclass(frozen=True)
class Trial:
    """How nodes are tried.

    Attributes:
        emit: writes the model with nothing but what a plan says in INT8.
        inputs: input tensors of some frames.
        shift_of: how far results move whose outputs these are; None where there is no measure.
        key: of all that decides what a trial finds, for the journal.

    """

    emit: Callable[[PrecisionPlan], onnx.ModelProto]
    inputs: Sequence[Tensors]
    shift_of: Callable[[Outputs], float] | None
    key: str


def measure_sensitivity(
    model: onnx.ModelProto, plan: PrecisionPlan, trial: Trial, journal: Journal, label: str
) -> tuple[NodeSensitivity, ...]:
    """Try every INT8 node of a plan alone, and compare with FP32.

    Args:
        model: prepared FP32 model.
        plan: which nodes to try.
        trial: how.
        journal: what was found earlier, and where this is written down.
        label: of the progress bar.

    Returns:
        one entry for each INT8 node of the plan, the dearest first.

    Raises:
        ModelError: a form does not run.

    """
    quantised = plan.quantised()
    nodes = [node for node in plan.nodes if node.node in quantised]
    made = {node.name: str(node.output[0]) for node in model.graph.node}
    names = [value.name for value in model.graph.output]
    inner = list(dict.fromkeys(made[node.node] for node in nodes))
    exact = _run(model, [*names, *inner], trial.inputs) if nodes else []
    found = []
    for node in track(nodes, label):
        key = f"{trial.key}/sensitivity/{node.node}"
        known = journal.find(key)
        if known is None:
            alone = trial.emit(_alone(plan, node.node))
            got = _run(alone, [*names, made[node.node]], trial.inputs)
            position = len(names) + inner.index(made[node.node])
            known = _compare(exact, got, len(names), position, trial)
            journal.keep(key, known)
        found.append(NodeSensitivity(node.node, node.macs, **known))
    return ranked(found)


def ranked(found: Iterable[NodeSensitivity]) -> tuple[NodeSensitivity, ...]:
    """Return sensitivities with the dearest first."""
    return tuple(sorted(found, key=lambda s: (tuple(-p for p in s.price), s.node)))


def as_json(ranking: Sequence[NodeSensitivity]) -> list[dict[str, object]]:
    """Return sensitivities as JSON values."""
    return [asdict(one) for one in ranking]


def output_error(reference: Outputs, got: Outputs) -> float:
    """Return the squared error relative to the variance, the mean over the outputs."""
    shares = []
    for output in range(len(reference[0])):
        exact = [np.asarray(frame[output], np.float64) for frame in reference]
        error = sum(float(((a - b[output]) ** 2).sum()) for a, b in zip(exact, got))
        spread = sum(float(((a - a.mean()) ** 2).sum()) for a in exact)
        shares.append(error / spread if spread else float(error > 0))
    return float(np.mean(shares))


def _alone(plan: PrecisionPlan, name: str) -> PrecisionPlan:
    others = plan.quantised() - {name}
    return plan.in_fp32().spared(dict.fromkeys(others, "not tried now"))


def _compare(
    exact: Outputs, got: Outputs, outputs: int, position: int, trial: Trial
) -> dict[str, float | None]:
    signal = sum(float((np.asarray(f[position], np.float64) ** 2).sum()) for f in exact)
    noise = sum(
        float(((np.asarray(a[position], np.float64) - b[outputs]) ** 2).sum())
        for a, b in zip(exact, got)
    )
    results = [frame[:outputs] for frame in got]
    return {
        "sqnr_db": 10.0 * math.log10(max(signal, 1e-30) / max(noise, 1e-30)),
        "error": output_error([frame[:outputs] for frame in exact], results),
        "shift": None if trial.shift_of is None else trial.shift_of(results),
    }


def _run(
    model: onnx.ModelProto, names: Sequence[str], inputs: Sequence[Tensors]
) -> list[list[Array]]:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {value.name for value in watched.graph.output}
    extra = [name for name in dict.fromkeys(names) if name not in known]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Every pair is computed as it stands: the form's own error, not that of some kernel.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = ort.InferenceSession(
            watched.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=UNSOUND_REWRITES,
        )
        return [session.run(list(names), dict(tensors)) for tensors in inputs]
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        raise ModelError(f"the sensitivity cannot be measured: {error}") from error
