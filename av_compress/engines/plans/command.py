# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The command that compiles a plan, as errors and `av-compress inspect` name it."""

from __future__ import annotations

import shlex
from pathlib import Path

from av_compress.engines.plans.options import CompileOptions


def command(
    root: Path,
    backend: str,
    options: CompileOptions,
    max_batch: int = 1,
    device: int | None = None,
) -> str:
    """Return the command that compiles with these options.

    Args:
        root: the bundle's folder.
        backend: `tensorrt` or `tensorrt_rtx`.
        options: those that are not the command's defaults are named.
        max_batch: the bundle's: by default a plan is compiled for 1 to that.
        device: index of the card; None: the first.

    """
    made = ["av-compress", "compile", str(root), "--backend", backend]
    if options.capabilities:
        made += ["--compute-capability", ",".join(options.capabilities)]
    if options.batch != (1, max_batch, max_batch):
        least, usual, most = options.batch
        made += ["--batch", str(least) if least == most else f"{least},{usual},{most}"]
    values = {
        "--workspace": options.workspace,
        "--optimization-level": options.optimization_level,
        "--dla": options.dla_core,
        "--hardware-compatibility": options.hardware_compatibility,
        "--device": device,
    }
    for name, value in values.items():
        made += [] if value is None else [name, str(value)]
    for flag in options.flags:
        made += ["--flag", flag]
    return shlex.join(made)
