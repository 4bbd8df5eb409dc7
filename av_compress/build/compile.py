# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bundle -> plan: an artefact compiled for a device, and held against what it asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_compress.cachefolder import cache_folder
from av_compress.engines.bundle import Bundle
from av_compress.engines.cuda import CudaContext, Device, find_device
from av_compress.engines.machine import card_name, describe
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
from av_compress.errors import UsageError
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
        path: the plan's file, or where it would lie had it been kept.
        found: whether it had been compiled earlier.
        warnings: what a user should know.
        refused: why it is not what was demanded; empty where it is.

    """

    record: PlanRecord
    path: Path
    found: bool
    warnings: tuple[str, ...]
    refused: str = ""

    @property
    def account(self) -> Mapping[str, Any]:
        """What the compiler made of the model, see `PlanAccount`."""
        return self.record.account

    @property
    def kept(self) -> bool:
        """Whether the plan is in the bundle."""
        return self.found or not self.refused


def compile_bundle(
    bundle: Bundle,
    backend: str,
    options: CompileOptions,
    watching: Watching,
    anew: bool = False,
    device: int | str = 0,
    strict: bool = False,
) -> Compilation:
    """Compile a bundle's artefact, unless the same was compiled earlier for the same devices.

    Args:
        bundle: verified.
        backend: `tensorrt` or `tensorrt_rtx`.
        options: for which device, and how.
        watching: gives what shows the progress.
        anew: compile though it is there.
        device: index or UUID of the card, where the backend compiles on the card alone.
        strict: refuse, and do not keep, a plan in which a node that was to be INT8 is not, or of
            which that is not known.

    Raises:
        BundleError: there is no artefact for the backend, or it was changed.
        MissingExtraError: the backend's package is not installed, or PyCUDA is not and a card is
            needed.
        UsageError: an option is not one of the installed version or of the backend, the batch is
            larger than the bundle's, or there is no such card.
        CudaError: there is no driver or no card, and one is needed.
        EngineError: the compiler refuses the model.
        AvCompressError: the plan cannot be written.

    """
    trt = load_module(backend)
    _check(trt, bundle, backend, options)
    # Before anything takes long: a plan is served on the card alone on which it was compiled.
    card = None if compiles_ahead_of_time(trt) else find_device(device)
    emitter = UNTYPED_FORM if is_untyped(trt, options) else FORM
    model = bundle.read_artefact(emitter)
    target = PlanTarget.of(
        emitter, sha256_bytes(model), backend, str(trt.__version__), options, card_name(card)
    )
    store = bundle.plans()
    path = store.folder / f"{target.key}.plan"
    with store.compiling(target):
        record = None if anew else store.find(target)
        if record is not None:
            return _found(bundle, store, record, path, strict)
        with _on(card):
            made = _compile(trt, target, model, store, card, watching)
        refused = _refused(made.record.account) if strict else ""
        if refused:
            if store.find(target) is not None:
                refused += _earlier(path)
            return Compilation(made.record, path, False, (), refused)
        _keep(store, made)
    warnings = [*_warnings(made.record.account), *_signing(bundle, store.record_path(target.key))]
    return Compilation(made.record, path, False, tuple(warnings))


def _check(trt: TensorRT, bundle: Bundle, backend: str, options: CompileOptions) -> None:
    """Refuse what the backend or the bundle cannot do, before a builder finds out."""
    most = bundle.manifest.max_batch
    if options.batch[2] > most:
        raise UsageError(
            f"--batch {','.join(map(str, options.batch))}: {bundle.root} takes at most {most} "
            f"frames at once; build it with optimize: {{max_batch: {options.batch[2]}}}"
        )
    # TensorRT for RTX warns and goes on.
    if options.hardware_compatibility is not None and compiles_ahead_of_time(trt):
        raise UsageError(
            f"--hardware-compatibility: {backend} has no levels; give --compute-capability"
        )


def _found(
    bundle: Bundle, store: PlanStore, record: PlanRecord, path: Path, strict: bool
) -> Compilation:
    """Say of a plan that is there what there is to say, and let it be the latest."""
    warnings = [*_warnings(record.account), *_signing(bundle, store.record_path(path.stem))]
    refused = _refused(record.account) if strict else ""
    if refused:
        return Compilation(record, path, True, (), refused + _earlier(path))
    rivals = [one for one in store.records() if one.target.backend == record.target.backend]
    newest = max((one.compiled_ns for one in rivals), default=0)
    record = store.renew(record, time.time_ns())
    if record.compiled_ns < newest:
        warnings.append(
            "the plan is signed, so it keeps the time of its compilation, and one that was "
            "compiled later and fits too is served before it: --anew compiles it again"
        )
    return Compilation(record, path, True, tuple(warnings))


def _earlier(path: Path) -> str:
    return f"; a plan that was kept without --strict is still served: remove {path}"


def _refused(account: Mapping[str, Any]) -> str:
    """Say why a plan is not what was demanded, where every planned node is to be INT8."""
    if not account["kernels"]:
        return "--strict: this TensorRT does not tell whether the planned nodes are INT8"
    differing = _differing(account)
    return f"--strict: {differing}" if differing else ""


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


@dataclass(frozen=True)
class _Made:
    """A plan that is not yet kept: its record, its bytes, and a calibration cache or nothing."""

    record: PlanRecord
    data: bytes
    calibration: str


def _compile(
    trt: TensorRT,
    target: PlanTarget,
    model: bytes,
    store: PlanStore,
    card: Device | None,
    watching: Watching,
) -> _Made:
    """Compile, and say what became of the model."""
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
        compiled_ns=time.time_ns(),
    )
    # What other tools take in place of pairs, e.g. `trtexec --calib`.
    calibration = calibration_of(source, target.version) if source.ranges else ""
    return _Made(record, plan.data, calibration)


def _keep(store: PlanStore, made: _Made) -> None:
    store.keep(made.record, made.data)
    if made.calibration:
        path = store.folder / f"{made.record.target.key}.calibration"
        write_text(path, made.calibration)


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
    differing = _differing(account)
    if differing:
        found.append(differing)
    twin = account["without_pairs"]
    if twin is not None and account["bytes_moved"] > twin["bytes_moved"]:
        moved, floats = (one["bytes_moved"] / 1e6 for one in (account, twin))
        found.append(
            f"this plan moves {moved:.1f} MB for each frame, {floats:.1f} MB without its Q/DQ "
            "pairs: on a device that waits for memory it may be the slower one"
        )
    return found


def _differing(account: Mapping[str, Any]) -> str:
    """Name the nodes that were to be integers and are not; empty where there are none."""
    differing = [node for node in account["nodes"] if node["differs"]]
    if not differing:
        return ""
    names = ", ".join(f"{node['node']} ({node['achieved']})" for node in differing[:5])
    more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
    return f"{len(differing)} nodes were to be INT8 and are not: {names}{more}"
