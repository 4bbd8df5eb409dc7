# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What onnx, onnx-ir and onnxslim do: order, opset, simplification, shapes; and names."""

from __future__ import annotations

import re
from collections import Counter

import onnx
from onnx import defs, inliner, shape_inference, version_converter

from av_compress.compress.names import free_name, tensor_names
from av_compress.compress.optimize.passes import (
    OPSET,
    Droppable,
    Required,
    copy_of,
    opset_of,
)
from av_compress.errors import ModelError

# The oldest IR whose graphs may keep constants out of the inputs, and that opset 19 came with.
IR_VERSION = 9
OLDEST_OPSET = 7
# What JetPack 6.1 reads at most: where a model cannot be brought to OPSET, this will do.
_NEWEST_TOLERATED = 20
# What `refine.insert` and `refine.fold` put behind a node's name: others tell by these names what
# they have observed, so that they cannot be any other.
_MIGRATED = re.compile(r"_(migrated|scaled|padded|pads)(_\d+)?(_padded)?(_by|_Mul|_Add|_Pad)?$")


class Tidy(Required):
    """Nodes in order, local functions inlined, constants in no node and no input."""

    name = "tidy"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Tidy by onnx-ir; a graph that it cannot read is left to the check."""
        import onnx_ir as ir
        from onnx_ir.passes import common

        steps = ir.passes.Sequential(
            common.InlinePass(),
            common.TopologicalSortPass(),
            common.RemoveInitializersFromInputsPass(),
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        )
        try:
            changed = ir.to_proto(steps(ir.from_proto(model)).model)
        except Exception:  # What is wrong with the graph, the check says better.
            return model, ""
        assert isinstance(changed, onnx.ModelProto)
        if not changed.graph.input:
            raise ModelError("the model has no inputs")
        changed.ir_version = max(changed.ir_version, IR_VERSION)
        return changed, ", ".join(_tidied(model, changed))


class ChangeOpset(Required):
    """Opset 19: FP16 scales in Q/DQ, and JetPack 6.1, which knows 20, reads it."""

    name = "change opset"

    def requires(self, model: onnx.ModelProto) -> None:
        """Need the default domain at 7 or later, and known to the installed onnx."""
        version, newest = opset_of(model), defs.onnx_opset_version()
        if not OLDEST_OPSET <= version <= newest:
            raise ModelError(
                f"the model has opset {version}; from {OLDEST_OPSET} to {newest} can be compressed"
            )

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Convert by ONNX's own converter, up or down."""
        version = opset_of(model)
        if version == OPSET:
            return model, ""
        known = model
        if version > OPSET:
            known = without_newer_operators(model, OPSET)
        try:
            changed = version_converter.convert_version(known, OPSET)
        except Exception as error:  # The converter raises RuntimeError and others of its own.
            if OPSET < version <= _NEWEST_TOLERATED:
                return model, ""
            raise ModelError(
                f"the model cannot be brought from opset {version} to {OPSET}: "
                f"{' '.join(str(error).split())}; export it again with opset {OPSET}"
            ) from error
        return changed, f"from {version} to {OPSET}"


class Simplify(Droppable):
    """Constant folding, dead and double nodes, Conv+BN and the like, by onnxslim."""

    name = "simplify"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Simplify until nothing changes."""
        import onnxslim

        before = Counter(node.op_type for node in model.graph.node)
        try:
            changed = onnxslim.slim(copy_of(model))
        except Exception as error:  # Whatever it stumbles over, the model is fine without it.
            raise ModelError(f"onnxslim failed: {' '.join(str(error).split())[:200]}") from error
        if not isinstance(changed, onnx.ModelProto):
            raise ModelError("onnxslim returned no model")
        after = Counter(node.op_type for node in changed.graph.node)
        gone = ", ".join(f"{n} {op}" for op, n in sorted((before - after).items()))
        come = ", ".join(f"{n} {op}" for op, n in sorted((after - before).items()))
        said = [f"removed {gone}" if gone else "", f"made {come}" if come else ""]
        return changed, "; ".join(filter(None, said))


class NameNodes(Required):
    """Every node gets a name of its own, so that plans and reports can speak of it."""

    name = "name nodes"
    rewrites = False

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Name the nameless and the doubles after what they make.

        Nodes too whose names, with what a migration puts behind them, are others' already.
        """
        changed = copy_of(model)
        taken: set[str] = set()
        reserved = _stems(changed.graph)
        named = 0
        for node in changed.graph.node:
            if not node.name or node.name in taken | reserved:
                made = next((name for name in node.output if name), "nothing")
                node.name = free_name(f"{node.op_type}_{made}", taken | reserved)
                named += 1
            taken.add(node.name)
        return changed, f"named {named} nodes" if named else ""


class InferShapes(Required):
    """Every tensor gets its shape."""

    name = "infer shapes"
    rewrites = False

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Infer by ONNX's own inference."""
        try:
            inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except shape_inference.InferenceError as error:
            raise ModelError(f"the model's shapes contradict each other: {error}") from error
        return inferred, ""


def _stems(graph: onnx.GraphProto) -> set[str]:
    """Return the names of nodes that would be given what the model has already."""
    names = tensor_names(graph) | {node.name for node in graph.node}
    return {name[: found.start()] for name in names if (found := _MIGRATED.search(name))}


def _tidied(before: onnx.ModelProto, after: onnx.ModelProto) -> list[str]:
    said = []
    if before.functions:
        said.append(f"{len(before.functions)} functions inlined")
    inputs = len(before.graph.input) - len(after.graph.input)
    if inputs:
        said.append(f"{inputs} constants are no inputs any more")
    kept = {name for node in after.graph.node for name in node.output}
    lifted = [n for n in before.graph.node if n.op_type == "Constant" and n.output[0] not in kept]
    if lifted:
        said.append(f"{len(lifted)} constants taken out of nodes")
    if not before.functions and _order(before) != _order(after):
        said.append("nodes sorted")
    return said


def _order(model: onnx.ModelProto) -> list[str]:
    return [n.output[0] for n in model.graph.node if n.output and n.op_type != "Constant"]


def without_newer_operators(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Write operators that came after an opset by those that there were, where ONNX says how.

    Args:
        model: it stays as it is, and is returned where there is nothing to write.
        opset: of the default domain; that of the model stays.

    """
    newer = {n.op_type for n in model.graph.node if not n.domain and not _known(n.op_type, opset)}
    if not newer:
        return model
    functions = [("", op_type) for op_type in sorted(newer)]
    return inliner.inline_selected_functions(model, functions, inline_schema_functions=True)


def _known(op_type: str, opset: int) -> bool:
    try:
        return not defs.get_schema(op_type, opset).deprecated
    except defs.SchemaError:
        return False
