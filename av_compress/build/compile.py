# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bundle -> plan: an artefact compiled for a device, and held against what it asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from av_compress.compress.emit.strip import strip
from av_compress.compress.states import weighted_nodes
from av_compress.engines.bundle import Bundle
from av_compress.engines.plans.account import AskedNode, PlanAccount, account_for
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.plans.store import PlanRecord, PlanTarget
from av_compress.engines.tensorrt import CompiledPlan, Progress, compile_plan, load_module
from av_compress.engines.trust.signatures import signature_path
from av_compress.errors import EngineError
from av_compress.fileio import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from tensorrt_api import TensorRT

# The form that is compiled.
FORM = "tensorrt"
# Whose plans fit the card that they are compiled on alone: a bundle may have come from another.
BOUND_TO_CARD = frozenset({"tensorrt"})

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
) -> Compilation:
    """Compile a bundle's artefact, unless the same was compiled earlier for any card.

    Args:
        bundle: verified.
        backend: `tensorrt` or `tensorrt_rtx`.
        options: for which device, and how.
        watching: gives what shows the progress.
        anew: compile though it is there.

    Raises:
        BundleError: there is no artefact for the backend, or it was changed.
        MissingExtraError: the backend's package is not installed.
        UsageError: an option is not one of the installed version.
        EngineError: the compiler refuses the model.
        AvCompressError: the plan cannot be written.

    """
    trt, model = load_module(backend), bundle.read_artefact(FORM)
    target = PlanTarget.of(FORM, sha256_bytes(model), backend, str(trt.__version__), options)
    store = bundle.plans()
    with store.compiling(target):
        record = None if anew or backend in BOUND_TO_CARD else store.find(target)
        found = record is not None
        if record is None:
            plan = compile_plan(trt, model, options, watching("compile"))
            account = _accounts(trt, model, plan, options, watching)
            record = PlanRecord(
                target=target,
                sha256=sha256_bytes(plan.data),
                bytes=len(plan.data),
                seconds=round(plan.seconds, 3),
                warnings=plan.warnings,
                account=account,
            )
            store.keep(record, plan.data)
    path = store.folder / f"{target.key}.plan"
    warnings = [*_warnings(record.account), *_signing(bundle, store.record_path(target.key))]
    return Compilation(record, path, found, tuple(warnings))


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
    try:
        made = compile_plan(trt, twin.SerializeToString(), options, watching("compare"))
    except EngineError:
        # It is there to compare with, not to be served.
        return content
    floats = _content(account_of(twin, made))
    content["without_pairs"] = {key: v for key, v in floats.items() if key != "nodes"}
    return content


def account_of(graph: onnx.ModelProto, plan: CompiledPlan) -> PlanAccount:
    """Hold a plan against the model that it was compiled of."""
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
