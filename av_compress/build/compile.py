# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bundle -> plan: an artefact compiled for a device, and held against what it asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from av_compress.cachefolder import cache_folder
from av_compress.compress.emit.builder_half import fp32_nodes
from av_compress.compress.emit.implicit import calibration_cache, without_pairs
from av_compress.compress.emit.strip import strip
from av_compress.compress.states import weighted_nodes
from av_compress.engines.bundle import Bundle
from av_compress.engines.cuda import Device
from av_compress.engines.machine import card_name, describe, find_card
from av_compress.engines.plans.account import AskedNode, PlanAccount, account_for
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.plans.store import PlanRecord, PlanTarget
from av_compress.engines.tensorrt.compile import CompiledPlan, NetworkSource, compile_plan
from av_compress.engines.tensorrt.module import (
    compiles_ahead_of_time,
    load_module,
    takes_ranges,
    types_from_graph,
)
from av_compress.engines.tensorrt.progress import Progress
from av_compress.engines.tensorrt.timing import TimingCache
from av_compress.engines.trust.signatures import signature_path
from av_compress.errors import EngineError
from av_compress.fileio import canonical_json, sha256_bytes, write_text

if TYPE_CHECKING:
    from tensorrt_api import TensorRT

# The form that is compiled where types come from the graph, and where they do not.
FORM = "tensorrt"
UNTYPED_FORM = "tensorrt_8"

# Label -> what shows the progress of that work.
Watching = Callable[[str], Progress | None]


@dataclass(frozen=True)
class Compilation:
    """A plan of a bundle.

    Attributes:
        record: what was compiled, and what the compiler made of it.
        path: the plan's file.
        found: whether it had been compiled earlier.
        warnings: what a user should know.

    """

    record: PlanRecord
    path: Path
    found: bool
    warnings: tuple[str, ...]

    @property
    def account(self) -> Mapping[str, Any]:
        """What the compiler made of the model, see `PlanAccount`."""
        return self.record.account

    @property
    def differing(self) -> list[Mapping[str, Any]]:
        """The nodes that were to be integers and are not."""
        return [node for node in self.account["nodes"] if node["differs"]]


def compile_bundle(
    bundle: Bundle,
    backend: str,
    options: CompileOptions,
    watching: Watching,
    anew: bool = False,
    device: int | str = 0,
) -> Compilation:
    """Compile a bundle's artefact, unless the same was compiled earlier for the same devices.

    Args:
        bundle: verified.
        backend: `tensorrt` or `tensorrt_rtx`.
        options: for which device, and how.
        watching: gives what shows the progress.
        anew: compile though it is there.
        device: index or UUID of the card, where the backend compiles on the card alone.

    Raises:
        BundleError: there is no artefact for the backend, or it was changed.
        MissingExtraError: the backend's package is not installed.
        UsageError: an option is not one of the installed version.
        EngineError: the compiler refuses the model.
        AvCompressError: the plan cannot be written.

    """
    trt = load_module(backend)
    card = None if compiles_ahead_of_time(trt) else find_card(device)
    emitter = UNTYPED_FORM if untyped(trt, options) else FORM
    model = bundle.read_artefact(emitter)
    target = PlanTarget.of(
        emitter, sha256_bytes(model), backend, str(trt.__version__), options, card_name(card)
    )
    store = bundle.plans()
    # Whether a plan that is bound to a card fits this one is known only where the card is.
    findable = compiles_ahead_of_time(trt) or card is not None
    with store.compiling(target):
        record = store.find(target) if findable and not anew else None
        found = record is not None
        if record is None:
            source = source_of(trt, model, options)
            record, data = _compile(trt, target, model, source, card, watching)
            store.keep(record, data)
            if source.ranges:
                # What other tools take in place of pairs, e.g. `trtexec --calib`.
                path = store.folder / f"{target.key}.calibration"
                write_text(path, calibration_cache(source.ranges, target.version))
    path = store.folder / f"{target.key}.plan"
    warnings = [*_warnings(record.account), *_signing(bundle, store.record_path(target.key))]
    return Compilation(record, path, found, tuple(warnings))


def untyped(trt: TensorRT, options: CompileOptions) -> bool:
    """Tell whether the builder takes no types from the graph, or no pairs on what is asked."""
    return not types_from_graph(trt) or (options.dla_core is not None and takes_ranges(trt))


def source_of(trt: TensorRT, model: bytes, options: CompileOptions) -> NetworkSource:
    """Say what a plan is made of: pairs and types, or what stands for them in this version."""
    if not untyped(trt, options):
        return NetworkSource(model)
    graph = onnx.load_model_from_string(model)
    half = fp32_nodes(graph)
    if options.dla_core is None:
        return NetworkSource(model, half)
    floats, ranges = without_pairs(graph)
    return NetworkSource(floats.SerializeToString(), half, ranges)


def _compile(
    trt: TensorRT,
    target: PlanTarget,
    model: bytes,
    source: NetworkSource,
    card: Device | None,
    watching: Watching,
) -> tuple[PlanRecord, bytes]:
    timings = None if card is None else timings_on(target.backend, target.version, target.card)
    options = target.compile_options()
    plan = compile_plan(trt, source, options, watching("compile"), timings)
    account = _accounts(trt, model, plan, options, watching)
    record = PlanRecord(
        target=target,
        sha256=sha256_bytes(plan.data),
        bytes=len(plan.data),
        seconds=round(plan.seconds, 3),
        warnings=plan.warnings,
        account=account,
        machine=describe(card),
        timing_cache=plan.timing_cache,
    )
    return record, plan.data


def timings_on(backend: str, version: str, card: str) -> TimingCache:
    """Return what was timed by a version on a card; see `machine.card_name`."""
    which = canonical_json([backend, version, card])
    return TimingCache(cache_folder() / "timing" / f"{sha256_bytes(which.encode())[:16]}.cache")


def _signing(bundle: Bundle, record: Path) -> list[str]:
    """Warn of a plan without a signature in a bundle that has one."""
    if not signature_path(bundle.manifest_path).exists() or signature_path(record).exists():
        return []
    return [
        "the bundle is signed, this plan is not: where a signature is required it is refused; "
        f"sign it where the private key is: av-compress sign {bundle.root} --key private.pem"
    ]


def _accounts(
    trt: TensorRT, model: bytes, plan: CompiledPlan, options: CompileOptions, watching: Watching
) -> Mapping[str, Any]:
    """Say what the compiler made of a model, and what it makes of it without its Q/DQ pairs."""
    graph = onnx.load_model_from_string(model)
    content = _content(account_of(graph, plan))
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
    floats = _content(account_of(twin, made))
    content["without_pairs"] = {key: v for key, v in floats.items() if key != "nodes"}
    return content


def account_of(graph: onnx.ModelProto, plan: CompiledPlan) -> PlanAccount:
    """Hold a plan against the model that it was compiled of."""
    if not plan.layers:
        # Nothing is known: neither that a node is what it was to be, nor that it is not.
        return account_for((), (), {})
    asked = [
        AskedNode(name, state.precision, state.weights)
        for name, state in weighted_nodes(graph).items()
    ]
    return account_for(plan.layers, asked, {node.name: node.op_type for node in graph.graph.node})


def _content(account: PlanAccount) -> dict[str, Any]:
    nodes = [{**asdict(node), "differs": node.differs} for node in account.nodes]
    content = {**asdict(account), "nodes": nodes, "bytes_moved": account.bytes_moved}
    return dict(json.loads(canonical_json(content)))


def _warnings(account: Mapping[str, Any]) -> list[str]:
    found = []
    if not account["kernels"]:
        found.append("this TensorRT does not tell what it made of the model: see its own log")
    differing = [node for node in account["nodes"] if node["differs"]]
    if differing:
        names = ", ".join(f"{node['node']} ({node['achieved']})" for node in differing[:5])
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        found.append(f"{len(differing)} nodes were to be INT8 and are not: {names}{more}")
    twin = account["without_pairs"]
    if twin is not None and account["bytes_moved"] > twin["bytes_moved"]:
        moved, floats = (one["bytes_moved"] / 1e6 for one in (account, twin))
        found.append(
            f"this plan moves {moved:.1f} MB for each frame, {floats:.1f} MB without its Q/DQ "
            "pairs: on a device that waits for memory it may be the slower one"
        )
    return found
