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
    from av_compress.engines.plans.store import PlanRecord, PlanStore

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
    from av_compress.engines.trust.signatures import describe

    store = bundle.plans()
    for record in store.records():
        target, account = record.target, record.account
        capabilities = ", ".join(target.options["capabilities"])
        device = f" for compute capability {capabilities}" if capabilities else ""
        yield f"\nplan {target.key}: {target.backend} {target.version}{device}"
        artefact = bundle.manifest.artefacts.get(target.emitter)
        unfit = store.unfit(record, "" if artefact is None else artefact.sha256)
        if unfit:
            again = f"av-compress compile {bundle.root} --backend {target.backend}"
            wanted = (
                f" --compute-capability {capabilities.replace(' ', '')}" if capabilities else ""
            )
            yield f"  does not fit: {unfit}; run: {again}{wanted}"
            continue
        path = store.record_path(target.key)
        yield f"  signature: {describe(path, path.read_bytes())}"
        differing = sum(node["differs"] for node in account["nodes"])
        yield f"  made:      {account['kernels']} kernels, {record.bytes / 2**20:.1f} MiB"
        if differing:
            yield f"  not INT8:  {differing} nodes that were to be"
        yield from _times(store, record)


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
