# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The arguments of verbs that run a bundle: which backend, on which card."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from av_compress.engines.forms import BACKENDS, ONNXRUNTIME

if TYPE_CHECKING:
    from av_compress.engines.bundle import Bundle
    from av_compress.engines.onnxruntime import OrtOptions
    from av_compress.engines.pipeline import Pipeline


def add_backend_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Declare `--backend` and `--device`."""
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default=ONNXRUNTIME,
        help=f"what runs the bundle (default {ONNXRUNTIME}); the others take the plan that "
        "av-compress compile made for the card",
    )
    parser.add_argument(
        "--device",
        default="0",
        metavar="INDEX_OR_UUID",
        help="the card that a plan runs on (default 0)",
    )


def device_of(args: argparse.Namespace) -> int | str:
    """Return the card that was asked for, as `open_plan` takes it."""
    return int(args.device) if args.device.isdigit() else str(args.device)


def open_bundle_pipeline(
    bundle: Bundle, args: argparse.Namespace, ort: OrtOptions
) -> tuple[Pipeline, str]:
    """Open what the arguments name: `backend`, `device` and `emitter`.

    Returns:
        the pipeline, and the name of what it runs: the emitter's or the backend's.

    """
    if args.backend != ONNXRUNTIME:
        pipeline = bundle.open_pipeline(args.backend, ort, args.emitter, device=device_of(args))
        return pipeline, args.backend
    emitter = args.emitter or bundle.default_emitter(ort)
    return bundle.open_pipeline(options=ort, emitter=emitter), emitter


def on_cpu() -> argparse.Namespace:
    """Return the arguments of a bundle that is compared with: ONNX Runtime runs it."""
    return argparse.Namespace(backend=ONNXRUNTIME, device="0", emitter=None)
