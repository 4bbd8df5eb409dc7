# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a plan is compiled of, and what the compiler made of it: all that reads the ONNX model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import onnx

from av_compress.build.compile import Watching, is_untyped
from av_compress.compress.emit.builder_half import fp32_nodes
from av_compress.compress.emit.implicit import calibration_cache, without_pairs
from av_compress.compress.emit.strip import strip
from av_compress.compress.states import weighted_nodes
from av_compress.engines.plans.account import AskedNode, PlanAccount, account_for, frames_listed
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.compile import CompiledPlan, NetworkSource, compile_plan
from av_compress.errors import EngineError
from av_compress.fileio import canonical_json

if TYPE_CHECKING:
    from tensorrt_api import TensorRT


def source_of(trt: TensorRT, model: bytes, options: CompileOptions) -> NetworkSource:
    """Say what a plan is made of: pairs and types, or what stands for them in this version."""
    if not is_untyped(trt, options):
        return NetworkSource(model)
    graph = onnx.load_model_from_string(model)
    half = fp32_nodes(graph)
    if options.dla_core is None:
        return NetworkSource(model, half)
    floats, ranges = without_pairs(graph)
    return NetworkSource(floats.SerializeToString(), half, ranges)


def calibration_of(source: NetworkSource, version: str) -> str:
    """Write a source's ranges as TensorRT's calibration cache."""
    return calibration_cache(source.ranges, version)


def account_of_plan(
    trt: TensorRT, model: bytes, plan: CompiledPlan, options: CompileOptions, watching: Watching
) -> Mapping[str, Any]:
    """Say what the compiler made of a model, and what it makes of it without its Q/DQ pairs."""
    graph = onnx.load_model_from_string(model)
    usual = options.batch[1]
    content = _content(account_of(graph, plan, usual))
    content["without_pairs"] = None
    if all(node["asked"] != "int8" for node in content["nodes"]):
        return content
    twin = strip(graph)
    source = source_of(trt, model, options)
    try:
        floats_alone = replace(source, model=twin.SerializeToString(), ranges={})
        made = compile_plan(trt, floats_alone, options, watching("compare"))
    except EngineError:
        # It is there to compare with, not to be served.
        return content
    floats = _content(account_of(twin, made, usual))
    content["without_pairs"] = {key: v for key, v in floats.items() if key != "nodes"}
    return content


def account_of(graph: onnx.ModelProto, plan: CompiledPlan, usual: int = 1) -> PlanAccount:
    """Hold a plan against the model that it was compiled of.

    Args:
        graph: the model.
        plan: of it.
        usual: the usual batch that it was compiled for.

    """
    if not plan.layers:
        # Nothing is known: neither that a node is what it was to be, nor that it is not.
        return account_for((), (), {})
    asked = [
        AskedNode(name, state.precision, state.weights)
        for name, state in weighted_nodes(graph).items()
    ]
    op_types = {node.name: node.op_type for node in graph.graph.node}
    return account_for(plan.layers, asked, op_types, frames_listed(plan.layers, usual))


def _content(account: PlanAccount) -> dict[str, Any]:
    nodes = [{**asdict(node), "differs": node.differs} for node in account.nodes]
    content = {**asdict(account), "nodes": nodes, "bytes_moved": account.bytes_moved}
    return dict(json.loads(canonical_json(content)))
