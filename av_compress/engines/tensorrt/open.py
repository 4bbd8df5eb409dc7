# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""From a bundle to a running plan: chosen, verified, loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from av_compress.cachefolder import cache_folder
from av_compress.engines.cuda import CudaContext, Device
from av_compress.engines.machine import card_name
from av_compress.engines.plans.choose import Batches, Runner, choose_plan
from av_compress.engines.plans.store import PlanRecord
from av_compress.engines.tensorrt.engine import RunOptions, TensorRTEngine
from av_compress.engines.tensorrt.module import load_module
from av_compress.engines.tensorrt.runtime_cache import RuntimeCache
from av_compress.engines.trust.host_code import host_code_allowed
from av_compress.fileio import sha256_bytes

if TYPE_CHECKING:
    from av_compress.engines.bundle import Bundle


def open_plan(
    bundle: Bundle,
    backend: str,
    device: int | str = 0,
    slots: int = 1,
    batches: Batches | None = None,
) -> TensorRTEngine:
    """Load the plan of a bundle that fits a device.

    The calling thread owns the engine: it runs it and closes it.

    Args:
        bundle: verified.
        backend: `tensorrt` or `tensorrt_rtx`.
        device: the card's index or UUID.
        slots: frames that may be on the card at once, see `RunOptions`.
        batches: that it is to run, see `choose_plan`.

    Raises:
        MissingExtraError: the backend's package, or PyCUDA, is not installed.
        UsageError: there is no such card.
        CudaError: there is no card or no driver, or it fails.
        EngineError: no plan fits; says why and what to run. Or TensorRT refuses it.
        BundleError: the artefact failed its gate, or a signature is required and does not hold.

    """
    trt = load_module(backend, "running a plan")
    cuda = CudaContext.open(device)
    try:
        record = plan_for(bundle, backend, cuda.device, batches)
        bundle.require_accepted(record.target.emitter)
        plan = bundle.plans().read(record)
        options = RunOptions(
            slots=slots,
            host_code=host_code_allowed(bundle, bundle.keys),
            dla_core=record.target.options["dla_core"],
            plan=record.target.key,
        )
        which = sha256_bytes(f"{record.sha256} {cuda.device.uuid} {cuda.device.driver}".encode())
        cache = RuntimeCache(cache_folder() / "runtime" / f"{which[:16]}.cache")
    except BaseException:
        cuda.close()
        raise
    # From here on the context is the engine's.
    return TensorRTEngine(trt, plan, cuda, options, cache)


def plan_for(
    bundle: Bundle, backend: str, card: Device, batches: Batches | None = None
) -> PlanRecord:
    """Return the record of the plan that is served on a card.

    Args:
        bundle: verified.
        backend: `tensorrt` or `tensorrt_rtx`.
        card: what is to run it.
        batches: that it is to run, see `choose_plan`.

    Raises:
        MissingExtraError: the backend's package is not installed.
        EngineError: no plan fits; says why and what to run.
        BundleError: a signature is required and does not hold.

    """
    trt = load_module(backend, "running a plan")
    runner = Runner(backend, str(trt.__version__), card_name(card), card.capability, card.index)
    artefacts = {name: record.sha256 for name, record in bundle.manifest.artefacts.items()}
    return choose_plan(bundle.root, bundle.plans(), runner, artefacts, batches)
