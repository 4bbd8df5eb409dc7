# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress compile`: a bundle's artefact becomes a TensorRT plan."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av_compress.build.compile import Compilation
    from av_compress.engines.bundle import Bundle
    from av_compress.engines.plans.options import CompileOptions
    from av_compress.engines.tensorrt.progress import Progress
    from av_compress.progress import Elapsed

HELP = "compile a bundle's model into a TensorRT plan; exit code 1 where it is refused"

# What a plan fits that names no compute capability.
_DEFAULT = {
    "tensorrt": "the card in this machine",
    "tensorrt_rtx": "every card from compute capability 8.0 on",
}
_NUMBER = re.compile(r"[0-9]{1,9}")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, metavar="DIR", help="the bundle's folder")
    parser.add_argument(
        "--backend",
        choices=("tensorrt", "tensorrt_rtx"),
        help="the compiler; by default the one that the bundle was chosen for, or is installed",
    )
    parser.add_argument(
        "--compute-capability",
        metavar="LIST",
        help="compile ahead of time for these, e.g. 8.6,8.9 (tensorrt_rtx alone)",
    )
    parser.add_argument("--workspace", metavar="SIZE", help="most scratch memory, e.g. 512M or 2G")
    parser.add_argument(
        "--optimization-level", type=int, metavar="N", help="0 (fast compilation) to 5 (fast plan)"
    )
    parser.add_argument(
        "--batch",
        metavar="N[,N,N]",
        help="batch, or smallest, usual and largest; by default 1 to what the bundle was built "
        "for, and that for the usual one",
    )
    parser.add_argument(
        "--hardware-compatibility",
        metavar="LEVEL",
        help="let other cards run it too, e.g. AMPERE_PLUS (tensorrt alone)",
    )
    parser.add_argument(
        "--device",
        metavar="INDEX|UUID",
        help="the card that it is compiled on and for (tensorrt alone; by default the first)",
    )
    parser.add_argument("--dla", type=int, metavar="N", help="DLA core, the GPU for the rest")
    parser.add_argument(
        "--flag", action="append", default=[], metavar="NAME", help="a builder flag of TensorRT's"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="keep no plan in which a planned INT8 node is not INT8; exit code 1",
    )
    parser.add_argument("--anew", action="store_true", help="compile though the plan is there")
    parser.add_argument("--json", action="store_true", help="print the plan's record as JSON")


def run(args: argparse.Namespace) -> int:
    """Compile, and say what was made."""
    from dataclasses import asdict

    from av_compress.build.compile import compile_bundle
    from av_compress.engines.bundle import load_bundle

    bundle = load_bundle(args.bundle)
    options = options_of(args, bundle.manifest.max_batch)
    backend = args.backend or _default_backend(bundle)
    _check_device(args, backend)
    device = 0 if args.device is None else args.device
    with _Bars() as bars:
        made = compile_bundle(
            bundle, backend, options, bars.watching, args.anew, device, args.strict
        )
    if args.json:
        path = str(made.path) if made.kept else None
        printed = {"path": path, "refused": made.refused, **asdict(made.record)}
        print(json.dumps(printed, indent=2))
    else:
        print(_text(made))
    for warning in made.warnings:
        print(f"av-compress compile: warning: {warning}", file=sys.stderr)
    if made.refused:
        print(f"av-compress compile: error: {made.refused}", file=sys.stderr)
    return 1 if made.refused else 0


def _default_backend(bundle: Bundle) -> str:
    from av_compress.engines.tensorrt.default import default_backend

    chosen = default_backend(bundle.manifest)
    text = f"backend {chosen.backend}: {chosen.why}; --backend names another"
    print(f"av-compress compile: {text}", file=sys.stderr)
    return chosen.backend


def _check_device(args: argparse.Namespace, backend: str) -> None:
    from av_compress.errors import UsageError

    if args.device is not None and backend == "tensorrt_rtx":
        raise UsageError(
            "--device: tensorrt_rtx compiles ahead of time, for no card of this machine; give "
            "--compute-capability"
        )


def options_of(args: argparse.Namespace, max_batch: int) -> CompileOptions:
    """Return the options that the arguments ask for.

    Raises:
        UsageError: one of them is none.

    """
    from av_compress.engines.plans.options import CompileOptions

    level = (args.hardware_compatibility or "NONE").upper()
    return CompileOptions(
        capabilities=_capabilities(args.compute_capability),
        workspace=None if args.workspace is None else _bytes(args.workspace),
        optimization_level=args.optimization_level,
        batch=(1, max_batch, max_batch) if args.batch is None else _batch(args.batch),
        dla_core=args.dla,
        flags=tuple(flag.upper() for flag in args.flag),
        hardware_compatibility=None if level == "NONE" else level,
    )


def _capabilities(text: str | None) -> tuple[str, ...]:
    from av_compress.errors import UsageError

    found = tuple(one.strip() for one in (text or "").split(",") if one.strip())
    if text is not None and not found:
        raise UsageError(
            f"--compute-capability: {text!r} names none; write e.g. 8.6,8.9, or leave it out"
        )
    return found


def _bytes(text: str) -> int:
    from av_compress.errors import UsageError

    match = re.fullmatch(r"(\d{1,30})([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"--workspace: {text!r} is no size; write e.g. 512M or 2G")
    return int(match[1]) * _UNITS[match[2].upper()]


def _batch(text: str) -> tuple[int, int, int]:
    from av_compress.errors import UsageError

    parts = text.split(",")
    if len(parts) not in {1, 3} or not all(_NUMBER.fullmatch(part.strip()) for part in parts):
        raise UsageError(f"--batch: {text!r} is neither a number nor three of them")
    numbers = [int(part) for part in parts]
    return (numbers[0], numbers[len(numbers) // 2], numbers[-1])


class _Bars:
    """A progress bar for each phase of a compiler, or how long it lasts where it tells of none."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._shown = ""
        self._elapsed: Elapsed | None = None

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def watching(self, label: str) -> Progress:
        from tqdm import tqdm

        from av_compress.progress import Elapsed, check_interrupt

        self._close()
        self._elapsed = Elapsed(label, sys.stderr)

        def step(phase: str, done: int, total: int) -> bool:
            text = f"{label}: {phase}"
            if text != self._shown:
                self._close()
                # As in `progress.track`: nothing is shown of what is over at once.
                self._bar = tqdm(
                    desc=text, total=total, delay=2.0, file=sys.stderr, disable=None, leave=False
                )
                self._shown = text
            self._bar.update(done - self._bar.n)
            try:
                check_interrupt()
            except KeyboardInterrupt:
                return False
            return True

        return step

    def _close(self) -> None:
        if self._elapsed is not None:
            self._elapsed.close()
        if self._bar is not None:
            self._bar.close()
        self._bar, self._shown, self._elapsed = None, "", None


def _text(made: Compilation) -> str:
    record, account = made.record, made.account
    target = record.target
    how = "was compiled earlier" if made.found else f"compiled in {record.seconds:.1f} s"
    capabilities = ", ".join(target.options["capabilities"])
    devices = f"compute capability {capabilities}" if capabilities else _DEFAULT[target.backend]
    least, usual, most = target.options["batch"]
    batch = f", batch {least} to {most}, best at {usual}" if most > 1 else ""
    where = made.path if made.kept else "not kept"
    lines = [
        f"plan: {where} ({record.bytes / 2**20:.1f} MiB, sha256 {record.sha256[:12]}), {how}",
        f"for: {target.backend} {target.version}, {target.card or devices}{batch}",
        *_moved("made", account),
    ]
    if account["without_pairs"] is not None:
        lines += _moved("without Q/DQ", account["without_pairs"])
    for kinds, count in account["convolutions"].items():
        lines.append(f"  {count:4} kernels with weights: {kinds}")
    padded = [node for node in account["nodes"] if node["padding"] > 1]
    if padded:
        lines.append(f"  {len(padded):4} of them pad channels: {_worst(padded)}")
    return "\n".join(lines)


def _moved(label: str, account: Mapping[str, Any]) -> list[str]:
    run = f" for a run of {account['batch']} frames" if account["batch"] > 1 else ""
    activations, weights = (account[f"{one}_bytes"] / 1e6 for one in ("activation", "constant"))
    return [
        f"{label}: {account['kernels']} kernels{run}, {activations:.1f} MB of activations and "
        f"{weights:.1f} MB of weights for each frame; "
        f"{account['conversions']} kernels only convert"
    ]


def _worst(padded: list[Mapping[str, Any]]) -> str:
    worst = max(padded, key=lambda node: float(node["padding"]))
    return f"{worst['node']} by {worst['padding']:g}"
