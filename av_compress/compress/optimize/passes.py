# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Passes: small objects that check or change a model, and report what they did."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference, version_converter

from av_compress.errors import ModelError

OPSET = 19
# The oldest IR whose graphs may keep constants out of the inputs, and that opset 19 came with.
IR_VERSION = 9

_QUANTISED = re.compile("Quantize|^QLinear|^QGemm$|^QAttention$|^(Conv|MatMul)Integer")


@dataclass(frozen=True)
class PassReport:
    """What a pass did.

    Attributes:
        name: of the pass.
        nodes_before: number of nodes that it found.
        nodes_after: number of nodes that it left.
        detail: in words; empty where nothing changed.

    """

    name: str
    nodes_before: int
    nodes_after: int
    detail: str


class Pass(Protocol):
    """A step of the preparation. Deterministic: equal models in, equal models out.

    Attributes:
        name: in reports and errors.

    """

    name: str

    def requires(self, model: onnx.ModelProto) -> None:
        """Check this pass's precondition.

        Raises:
            ModelError: the pass cannot work on this model.

        """

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Return the changed model and what was done, in words."""
        ...


def apply(step: Pass, model: onnx.ModelProto) -> tuple[onnx.ModelProto, PassReport]:
    """Check a pass's precondition, run it and report."""
    step.requires(model)
    before = len(model.graph.node)
    changed, detail = step.run(model)
    return changed, PassReport(step.name, before, len(changed.graph.node), detail)


class Check:
    """The model is valid ONNX, in floating point, and not quantised already."""

    name = "check"

    def requires(self, model: onnx.ModelProto) -> None:
        """Need at least one node."""
        if not model.graph.node:
            raise ModelError("the model has no nodes")

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Check; the model stays as it is."""
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            text = " ".join(str(error).split())
            raise ModelError(f"the model is not valid ONNX: {text[:300]}") from error
        refuse_quantised(model)
        broken = [t.name for t in model.graph.initializer if not _is_finite(t)]
        if broken:
            raise ModelError(f"the model holds NaN or infinity in {', '.join(broken[:3])}")
        foreign = Counter(node.domain for node in model.graph.node if node.domain)
        return model, "; ".join(f"{n} nodes of domain {d}" for d, n in sorted(foreign.items()))


class SeparateConstants:
    """Old exporters list constants among the inputs: only true inputs stay there."""

    name = "separate constants"

    def requires(self, model: onnx.ModelProto) -> None:
        """Need nothing."""

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Remove initialisers from the graph's inputs."""
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in constants]
        removed = len(model.graph.input) - len(inputs)
        if not inputs:
            raise ModelError("the model has no inputs")
        changed = _copy(model)
        del changed.graph.input[:]
        changed.graph.input.extend(inputs)
        changed.ir_version = max(changed.ir_version, IR_VERSION)
        return changed, f"{removed} constants are no inputs any more" if removed else ""


class RaiseOpset:
    """Opset 19: FP16 scales in Q/DQ, and the newest that JetPack 6 reads with room to spare."""

    name = "raise opset"

    def requires(self, model: onnx.ModelProto) -> None:
        """Need the default domain at 7 to 20."""
        version = opset_of(model)
        if not 7 <= version <= 20:
            raise ModelError(f"the model has opset {version}; from 7 to 20 can be compressed")

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Convert by ONNX's own converter."""
        version = opset_of(model)
        if version >= OPSET:
            return model, ""
        try:
            changed = version_converter.convert_version(model, OPSET)
        except Exception as error:  # The converter raises RuntimeError and others of its own.
            raise ModelError(
                f"the model cannot be raised from opset {version} to {OPSET}: {error}; export it "
                f"again with opset {OPSET}"
            ) from error
        return changed, f"from {version} to {OPSET}"


class Simplify:
    """Constant folding, dead and duplicate nodes, Conv+BN and Pad folding, by onnxslim."""

    name = "simplify"

    def requires(self, model: onnx.ModelProto) -> None:
        """Need nothing."""

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Simplify until nothing changes."""
        import onnxslim

        before = Counter(node.op_type for node in model.graph.node)
        changed = onnxslim.slim(_copy(model))
        if not isinstance(changed, onnx.ModelProto):
            raise ModelError("onnxslim returned no model")
        after = Counter(node.op_type for node in changed.graph.node)
        gone = ", ".join(f"{n} {op}" for op, n in sorted((before - after).items()))
        return changed, f"removed {gone}" if gone else ""


class NameNodes:
    """Every node gets a name of its own, so that plans and reports can speak of it."""

    name = "name nodes"

    def requires(self, model: onnx.ModelProto) -> None:
        """Need nothing."""

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Name the nameless and the doubles after what they make."""
        changed = _copy(model)
        taken: set[str] = set()
        named = 0
        for node in changed.graph.node:
            if not node.name or node.name in taken:
                made = next((name for name in node.output if name), "nothing")
                node.name = _free_name(f"{node.op_type}_{made}", taken)
                named += 1
            taken.add(node.name)
        return changed, f"named {named} nodes" if named else ""


class InferShapes:
    """Every tensor gets its shape."""

    name = "infer shapes"

    def requires(self, model: onnx.ModelProto) -> None:
        """Need a sorted graph, which the check has seen to."""

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Infer by ONNX's own inference."""
        try:
            inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except shape_inference.InferenceError as error:
            raise ModelError(f"the model's shapes contradict each other: {error}") from error
        return inferred, ""


def refuse_quantised(model: onnx.ModelProto) -> None:
    """Check that a model is none that a quantiser has written.

    Raises:
        ModelError: it holds quantised operators.

    """
    found = sorted({n.op_type for n in model.graph.node if _QUANTISED.search(n.op_type)})
    if found:
        raise ModelError(
            f"the model is quantised already ({', '.join(found)}); start from the FP32 model it "
            "was made from"
        )


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the default domain; 0 where the model does not say."""
    return next((int(o.version) for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)


def _is_finite(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type not in {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}:
        return True
    return bool(np.isfinite(numpy_helper.to_array(tensor)).all())


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _free_name(wanted: str, taken: set[str]) -> str:
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name
