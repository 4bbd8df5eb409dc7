# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How long a verified plan takes to load, and an unchanged bundle to compile again.

    python benchmarks/load.py --bundle DIR

The bundle is copied, compiled with TensorRT for RTX for one compute capability, and signed. Then,
by turns and with the files in the system's cache:

- load: all that a node does of a plan before TensorRT deserialises it: the manifest's signature
  and schema, the hashes of all models, every plan's signature, permissions and hash, the choice,
  and the bytes read once more. Deserialising needs a card and is not in it.
- compile: `av-compress compile` of what was compiled earlier.

Both in this process, and as a process of their own from its start to its end. Fails where one
takes a second or more.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from av_compress.engines.bundle import load_bundle
from av_compress.engines.plans.choose import Runner, choose_plan
from av_compress.engines.tensorrt.module import load_module
from av_compress.engines.trust.keys import TrustedKeys

ROOT = Path(__file__).resolve().parent.parent
BACKEND, CAPABILITY = "tensorrt_rtx", "8.9"
COMPILE = ("--backend", BACKEND, "--compute-capability", CAPABILITY)
GOAL_S = 1.0


def load(root: Path, public: Path) -> int:
    """Verify a bundle and its plan as a node does; return the plan's size."""
    bundle = load_bundle(root, TrustedKeys.load([public]))
    version = str(load_module(BACKEND).__version__)
    store = bundle.plans()
    artefacts = {name: record.sha256 for name, record in bundle.manifest.artefacts.items()}
    record = choose_plan(root, store, Runner(BACKEND, version, "", CAPABILITY), artefacts)
    return len(store.read(record))


def compile_again(root: Path) -> None:
    from av_compress.build.compile import compile_bundle
    from av_compress.engines.plans.options import CompileOptions

    most = (bundle := load_bundle(root)).manifest.max_batch
    options = CompileOptions((CAPABILITY,), batch=(1, most, most))
    made = compile_bundle(bundle, BACKEND, options, lambda label: None)
    if not made.found:
        raise SystemExit("the bundle was compiled anew: what is measured is not what is meant")


def write_keys(folder: Path) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    private.chmod(0o600)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(pem, spki))
    return private, public


def seconds(work: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return timed


def process(*arguments: str) -> Callable[[], float]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return seconds(
        lambda: subprocess.run(command, check=True, capture_output=True, env=environment)
    )


def measure(source: Path, rounds: int) -> dict[str, float]:
    from common import interleaved_medians

    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(source, Path(folder) / "bundle"))
        shutil.rmtree(root / "plans", ignore_errors=True)
        private, public = write_keys(Path(folder))
        verb = ("-m", "av_compress")
        process(*verb, "compile", str(root), *COMPILE)()
        process(*verb, "sign", str(root), "--key", str(private))()
        runs = {
            "load_s": seconds(lambda: load(root, public)),
            "compile_again_s": seconds(lambda: compile_again(root)),
            "load_process_s": process(__file__, "--one", str(root), str(public)),
            "compile_again_process_s": process(*verb, "compile", str(root), *COMPILE),
        }
        taken = interleaved_medians(runs, rounds)
        plan_bytes = load(root, public)
        model_bytes = sum(r.bytes for r in load_bundle(root).manifest.artefacts.values())
    return {
        **{name: round(value, 4) for name, value in taken.items()},
        "plan_bytes": plan_bytes,
        "model_bytes": model_bytes,
        "rounds": rounds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        load(*args.one)
        return 0
    if args.bundle is None:
        parser.error("--bundle DIR is needed")
    figures = measure(args.bundle, args.rounds)
    slow = [name for name, taken in figures.items() if name.endswith("_s") and taken >= GOAL_S]
    from common import save_results

    save_results("load", {"goal_s": GOAL_S, **figures}, ["tensorrt-rtx-cu12"])
    for name, value in figures.items():
        print(f"{name}: {value}")
    print(f"NOT held: {', '.join(slow)} take {GOAL_S:g} s or more" if slow else "held")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
