# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression inside a model, cut off: its boxes and scores become the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from av_compress.compress.graph import GraphIndex, attribute, int_list
from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.passes import Required, infer_shapes

# Operator -> the attribute that tells how boxes are written; value 1 is centre and size.
_SUPPRESSIONS = {
    "NonMaxSuppression": "center_point_box",
    "EfficientNMS_TRT": "box_coding",
    "EfficientNMS_ONNX_TRT": "box_coding",
}
BOXES, SCORES = "boxes", "scores"


@dataclass(frozen=True)
class Suppression:
    """A suppression and what it reads.

    Attributes:
        node: the node.
        boxes: tensor [batch, boxes, 4].
        scores: tensor [batch, boxes, classes].
        turned: whether `scores` has to be transposed to be that.
        dependent: the graph's outputs that depend on the suppression.

    """

    node: onnx.NodeProto
    boxes: str
    scores: str
    turned: bool
    dependent: tuple[str, ...]


class DetachNms(Required):
    """The suppression and everything behind it goes; outputs `boxes` and `scores` come.

    The task then suppresses, with thresholds that a user can change: head `decoded`.
    """

    name = "detach nms"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Cut; a model without a suppression, or with several, stays as it is."""
        found = suppression_of(model)
        if found is None:
            return model, ""
        coding = attribute(found.node, _SUPPRESSIONS[found.node.op_type], 0)
        written = "centre and size" if coding else "corners"
        gone = ", ".join(found.dependent)
        said = f"{found.node.op_type} cut off: {BOXES} ({written}) and {SCORES} instead of {gone}"
        return detach(model, found), said


def suppression_of(model: onnx.ModelProto) -> Suppression | None:
    """Return the model's only suppression; None where there is none, or several."""
    nodes = [node for node in model.graph.node if node.op_type in _SUPPRESSIONS]
    if len(nodes) != 1 or len(nodes[0].input) < 2:
        return None
    node, index = nodes[0], GraphIndex(model)
    boxes, scores = node.input[0], node.input[1]
    turned = node.op_type == "NonMaxSuppression"
    producer = index.producers.get(scores)
    if turned and producer is not None and producer.op_type == "Transpose":
        perm = int_list(producer, "perm")
        scores, turned = (producer.input[0], False) if perm == [0, 2, 1] else (scores, True)
    dependent = _dependent(model, node)
    if not dependent or boxes not in index.producers or scores not in index.producers:
        return None
    return Suppression(node, boxes, scores, turned, dependent)


def detach(
    model: onnx.ModelProto, found: Suppression, names: Sequence[str] = (BOXES, SCORES)
) -> onnx.ModelProto:
    """Return the model with boxes and scores instead of what depends on the suppression."""
    editor = Editor(infer_shapes(model))
    turned = found.scores
    if found.turned:
        turned = editor.new_tensor(f"{found.scores}_by_box")
        editor.append("Transpose", [found.scores], turned, perm=[0, 2, 1])
    kept = [v.name for v in model.graph.output if v.name not in found.dependent]
    added = []
    for wanted, source in zip(names, (found.boxes, turned)):
        name = editor.new_tensor(wanted)
        editor.append("Identity", [source], name)
        added.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3))
    editor.set_outputs(kept, added)
    return editor.finish()


def _dependent(model: onnx.ModelProto, node: onnx.NodeProto) -> tuple[str, ...]:
    index = GraphIndex(model)
    reached, stack = set[str](), list(node.output)
    while stack:
        name = stack.pop()
        if name and name not in reached:
            reached.add(name)
            for reader in index.consumers.get(name, ()):
                stack.extend(reader.output)
    return tuple(value.name for value in model.graph.output if value.name in reached)
