# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bundle -> plan: an artefact compiled for a device, and held against what it asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_compress.cachefolder import cache_folder
from av_compress.engines.bundle import Bundle
from av_compress.engines.cuda import CudaContext, Device, find_device
from av_compress.engines.machine import card_name, describe, find_card
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.plans.store import PlanRecord, PlanStore, PlanTarget
from av_compress.engines.tensorrt.compile import compile_plan
from av_compress.engines.tensorrt.module import (
    compiles_ahead_of_time,
    load_module,
    takes_ranges,
    types_from_graph,
)
from av_compress.engines.tensorrt.progress import Progress
from av_compress.engines.tensorrt.timing import TimingCache
from av_compress.engines.trust.signatures import signature_path
from av_compress.fileio import canonical_json, sha256_bytes, write_text
from av_compress.progress import clock

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
    device: int | str | None = None,
) -> Compilation:
    """Compile a bundle's artefact, unless the same was compiled earlier for the same devices.

    Args:
        bundle: verified.
        backend: `tensorrt` or `tensorrt_rtx`.
        options: for which device, and how.
        watching: gives what shows the progress.
        anew: compile though it is there.
        device: index or UUID of the card, where the backend compiles on the card alone; None:
            the first, or whatever the backend finds where PyCUDA sees none.

    Raises:
        BundleError: there is no artefact for the backend, or it was changed.
        MissingExtraError: the backend's package is not installed.
        UsageError: an option is not one of the installed version, or there is no such card.
        CudaError: a card is named, and there is no driver or no card.
        EngineError: the compiler refuses the model.
        AvCompressError: the plan cannot be written.

    """
    trt = load_module(backend)
    card = None if compiles_ahead_of_time(trt) else _card(device)
    emitter = UNTYPED_FORM if is_untyped(trt, options) else FORM
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
            with _on(card):
                record = _compile(trt, target, model, store, card, watching)
    path = store.folder / f"{target.key}.plan"
    warnings = [*_warnings(record.account), *_signing(bundle, store.record_path(target.key))]
    return Compilation(record, path, found, tuple(warnings))


def _card(device: int | str | None) -> Device | None:
    # Where one is named, it is not enough to find none.
    return find_card() if device is None else find_device(device)


@contextmanager
def _on(card: Device | None) -> Iterator[None]:
    """Let the builder compile on a card: it takes the one whose context is current."""
    if card is None:
        yield
        return
    with CudaContext.open(card.uuid) as cuda, cuda.active():
        yield


def is_untyped(trt: TensorRT, options: CompileOptions) -> bool:
    """Tell whether the builder takes no types from the graph, or no pairs on what is asked."""
    return not types_from_graph(trt) or (options.dla_core is not None and takes_ranges(trt))


def _compile(
    trt: TensorRT,
    target: PlanTarget,
    model: bytes,
    store: PlanStore,
    card: Device | None,
    watching: Watching,
) -> PlanRecord:
    """Compile, and keep the plan and what became of the model."""
    # Reading ONNX models is heavy to import, and a plan that is found needs nothing of it.
    from av_compress.build.plan_parts import account_of_plan, calibration_of, source_of

    timings = None if card is None else timings_on(target.backend, target.version, target.card)
    options = target.compile_options()
    source = source_of(trt, model, options)
    plan = compile_plan(trt, source, options, watching(_label(store, target)), timings)
    account = account_of_plan(trt, model, plan, options, watching)
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
    store.keep(record, plan.data)
    if source.ranges:
        # What other tools take in place of pairs, e.g. `trtexec --calib`.
        path = store.folder / f"{target.key}.calibration"
        write_text(path, calibration_of(source, target.version))
    return record


def _label(store: PlanStore, target: PlanTarget) -> str:
    """Say what is done, and how long it took earlier where that is known."""
    seconds = store.earlier_seconds(target)
    return "compile" if seconds is None else f"compile ({clock(seconds)} the last time)"


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
