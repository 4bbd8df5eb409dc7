# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a model must be before anything is done to it, and what of it is left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from av_compress.compress.graph import WEIGHTED, content, nested_nodes, subgraphs
from av_compress.compress.optimize.passes import Required, refuse_quantised
from av_compress.compress.optimize.proof import foreign_nodes
from av_compress.errors import ModelError

_NAMED = 8


class Check(Required):
    """The model is valid ONNX, in floating point, and not quantised already."""

    name = "check"
    rewrites = False

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
        unreadable = [t.name for t in model.graph.initializer if content(t) is None]
        if unreadable:
            named = ", ".join(unreadable[:3])
            raise ModelError(f"the data of {named} is not what its type and shape say")
        broken = [t.name for t in model.graph.initializer if not _is_finite(t)]
        if broken:
            raise ModelError(f"the model holds NaN or infinity in {', '.join(broken[:3])}")
        return model, "; ".join([*_foreign(model), *_control_flow(model)])


def _foreign(model: onnx.ModelProto) -> Iterator[str]:
    """Say which nodes belong to other runtimes."""
    kinds = Counter((node.domain, node.op_type) for node in foreign_nodes(model))
    for (domain, op_type), count in sorted(kinds.items()):
        yield f"{count} {op_type} of domain {domain} kept as they are"


def _control_flow(model: onnx.ModelProto) -> Iterator[str]:
    """Say which weighted nodes cannot be reached, because a branch or a loop holds them."""
    for node in model.graph.node:
        if not any(True for _ in subgraphs(node)):
            continue
        inner = [n for n in nested_nodes(node) if n.op_type in WEIGHTED]
        names = [n.name or n.op_type for n in inner]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        held = f"; in float inside: {', '.join(names[:_NAMED])}{more}" if names else ""
        yield f"{node.op_type} {node.name or node.output[0]!r} kept as it is{held}"


def _is_finite(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type not in {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}:
        return True
    return bool(np.isfinite(numpy_helper.to_array(tensor)).all())
