# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress inspect`: verify a bundle and print what it says of itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av_compress.engines.bundle import Bundle
    from av_compress.engines.plans.choose import Runner
    from av_compress.engines.plans.store import PlanRecord, PlanStore, PlanTarget

HELP = "verify a bundle's hashes and print what it holds and how it was judged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, metavar="DIR", help="the bundle's folder")
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")


def run(args: argparse.Namespace) -> int:
    """Load, verify and print."""
    from av_compress.build.summary import build_summary
    from av_compress.engines.bundle import load_bundle
    from av_compress.engines.measurements import load_measurements
    from av_compress.engines.trust.signatures import describe

    bundle = load_bundle(args.bundle)
    bundle.task()
    if args.json:
        print(json.dumps({"sha256": bundle.sha256, **asdict(bundle.manifest)}, indent=2))
    else:
        print(f"bundle {args.bundle}, sha256 {bundle.sha256}: every hash verified")
        print(f"signature: {describe(bundle.manifest_path, bundle.manifest_path.read_bytes())}")
        if bundle.manifest.max_batch > 1:
            print(f"batch: up to {bundle.manifest.max_batch} frames at once")
        print(build_summary(bundle.manifest, load_measurements(bundle.root)))
        for line in _plans(bundle):
            print(line)
    return 0


def _plans(bundle: Bundle) -> Iterator[str]:
    """Describe every plan, and say of those that do not fit why, and what to run."""
    from av_compress.engines.tensorrt.default import runner_here

    store = bundle.plans()
    survey = store.survey()
    backends = sorted({record.target.backend for record in survey.records})
    runners = {backend: runner_here(backend) for backend in backends}
    for record in survey.records:
        yield f"\nplan {record.target.key}: {_made_for(record.target)}"
        yield from _plan(bundle, store, record, runners[record.target.backend][0])
    for key, misfit in survey.unreadable.items():
        yield f"\nplan {key}: cannot be used: {misfit.reason}"
    for backend, (_, unknown) in runners.items():
        if unknown:
            yield f"\nnot checked of plans for {backend}: {'; '.join(unknown)}"
    if not survey.records:
        yield from _no_plan(bundle)


def _made_for(target: PlanTarget) -> str:
    """Say what a plan is for, so that no two plans look alike."""
    options = target.compile_options()
    least, usual, most = options.batch
    parts = [
        f"for compute capability {', '.join(options.capabilities)}" * bool(options.capabilities),
        f"on {target.card}" * bool(target.card),
        f"batch {least}" if least == most else f"batch {least} to {most}, best at {usual}",
        "" if options.dla_core is None else f"DLA core {options.dla_core}",
        "" if options.workspace is None else f"workspace {options.workspace / 2**20:g} MiB",
        ""
        if options.optimization_level is None
        else f"optimization level {options.optimization_level}",
        options.hardware_compatibility or "",
        *options.flags,
    ]
    said = ", ".join(part for part in parts if part)
    return f"{target.backend} {target.version} {target.emitter}, {said}"


def _plan(bundle: Bundle, store: PlanStore, record: PlanRecord, runner: Runner) -> Iterator[str]:
    from av_compress.engines.plans.choose import remedy, unfit
    from av_compress.engines.trust.signatures import describe

    target, account = record.target, record.account
    path = store.record_path(target.key)
    yield f"  signature: {describe(path, path.read_bytes())}"
    artefacts = {name: one.sha256 for name, one in bundle.manifest.artefacts.items()}
    misfit = unfit(record, store, runner, artefacts)
    if misfit is not None:
        run = f"; run: {remedy(bundle.root, record, runner, bundle.manifest.max_batch)}"
        yield f"  does not fit: {misfit.reason}{run if misfit.recompile else ''}"
        return
    if runner.version and runner.capability:
        yield f"  fits:      version {runner.version}, {runner.card}"
    differing = sum(node["differs"] for node in account["nodes"])
    yield f"  made:      {account['kernels']} kernels, {record.bytes / 2**20:.1f} MiB"
    if differing:
        yield f"  not INT8:  {differing} nodes that were to be"
    yield from _times(store, record)


def _no_plan(bundle: Bundle) -> Iterator[str]:
    """Name the command where there is no plan, and a form that one can be made of."""
    from av_compress.build.compile import FORM, UNTYPED_FORM
    from av_compress.engines.plans.command import command
    from av_compress.engines.plans.options import CompileOptions
    from av_compress.engines.tensorrt.default import default_backend

    most = bundle.manifest.max_batch
    options = CompileOptions(batch=(1, most, most))
    if FORM in bundle.manifest.artefacts:
        backend = default_backend(bundle.manifest).backend
        yield f"\nno plan; run: {command(bundle.root, backend, options, most)}"
    elif UNTYPED_FORM in bundle.manifest.artefacts:
        run = command(bundle.root, "tensorrt", options, most)
        yield f"\nno plan; where TensorRT is 8.6, run: {run}"


def _times(store: PlanStore, record: PlanRecord) -> Iterator[str]:
    """Say what a plan took on the cards that it was timed on."""
    from av_compress.engines.plans.measured import load_times
    from av_compress.errors import DataError

    try:
        found = load_times(store, record)
    except DataError as error:
        # Nothing is decided by it.
        yield f"  took:      {error}"
        return
    for one in found:
        on = one.machine.get("gpu", "a card without a name")
        mode = f", power mode {one.machine['power_mode']}" if "power_mode" in one.machine else ""
        rate = max(one.frames_per_s.values(), default=0.0)
        yield (
            f"  took:      {one.latency_ms['p50']:.2f} ms (p99 {one.latency_ms['p99']:.2f}), "
            f"{rate:.0f} frames/s, batch {one.batch}, on {on}{mode}"
        )
