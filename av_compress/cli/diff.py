# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress diff`: two bundles or models side by side."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from av_compress.cli.frames import add_frame_arguments, open_frames
from av_compress.engines.forms import FORMS

if TYPE_CHECKING:
    from av_compress.engines.bundle import Bundle
    from av_compress.engines.onnxruntime import OrtOptions
    from av_compress.engines.pipeline import Pipeline
    from av_compress.tasks.base import Task
    from av_compress.validate.diff import Side
    from av_compress.validate.side_by_side import SideBySide

HELP = "compare two bundles or ONNX models: precision, size, accuracy, latency, agreement"

# How far above the task's score threshold a box must lie to count when it has no partner.
_SCORE_MARGIN = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    for name in ("A", "B"):
        parser.add_argument(
            name.lower(), type=Path, metavar=name, help="a bundle's folder or an ONNX file"
        )
    for name in ("a", "b"):
        parser.add_argument(
            f"--emitter-{name}",
            choices=tuple(FORMS),
            help=f"which form of bundle {name.upper()}; by default the one for this machine",
        )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    group = parser.add_argument_group("measurement", "run both on the same frames, in turns")
    add_frame_arguments(group)
    group.add_argument(
        "--task", type=Path, metavar="TASK.yaml", help="what models mean; a bundle brings its own"
    )
    group.add_argument(
        "--frames", type=_whole(1), default=50, metavar="N", help="at most so many frames (50)"
    )
    group.add_argument(
        "--threads",
        type=_whole(0),
        default=1,
        metavar="N",
        help="threads of each model (1); 0: all",
    )


def run(args: argparse.Namespace) -> int:
    """Compare, measure where frames are given, and print."""
    from av_compress.validate.diff import diff
    from av_compress.validate.diff_text import diff_json, diff_text

    opened = [_open(args.a, args.emitter_a, "a"), _open(args.b, args.emitter_b, "b")]
    sides = [one.side() for one in opened]
    measured = _measure(args, opened)
    found = diff(sides[0], sides[1], measured)
    print(json.dumps(diff_json(found), indent=2) if args.json else diff_text(found))
    return 0


class _Opened:
    """A or B: a form of a bundle, or a model's file."""

    def __init__(self, path: Path, bundle: Bundle | None, emitter: str) -> None:
        self.path, self.bundle, self.emitter = path, bundle, emitter

    def side(self) -> Side:
        from av_compress.validate.diff import bundle_side, model_side

        if self.bundle is None:
            return model_side(self.path)
        return bundle_side(self.bundle, self.emitter)

    def pipeline(self, task: Task[object, object], ort: OrtOptions) -> Pipeline:
        from av_compress.engines.onnxruntime import OnnxRuntimeEngine
        from av_compress.engines.pipeline import Pipeline

        if self.bundle is None:
            return Pipeline(task, OnnxRuntimeEngine(self.path, ort))
        return self.bundle.open_pipeline(options=ort, emitter=self.emitter)


def _open(path: Path, emitter: str | None, name: str) -> _Opened:
    from av_compress.engines.bundle import load_bundle
    from av_compress.engines.onnxruntime import OrtOptions
    from av_compress.errors import UsageError

    if path.is_dir():
        bundle = load_bundle(path)
        return _Opened(path, bundle, emitter or bundle.default_emitter(OrtOptions()))
    if not path.is_file():
        raise UsageError(f"{path} is neither a bundle's folder nor an ONNX file")
    if emitter is not None:
        raise UsageError(f"--emitter-{name} goes with a bundle; {path} is a model")
    return _Opened(path, None, "")


def _measure(args: argparse.Namespace, opened: list[_Opened]) -> SideBySide | None:
    from av_compress.engines.onnxruntime import OrtOptions
    from av_compress.validate.compare import Comparison
    from av_compress.validate.side_by_side import run_side_by_side

    if args.data is None:
        return None
    task = _task(args.task, opened)
    # Threads that spin after one model's run would take the core from the other.
    quiet = {"session.intra_op.allow_spinning": "0"}
    ort = OrtOptions(intra_op_threads=args.threads, session_config=quiet)
    with ExitStack() as stack:
        source = open_frames(args, task.frame_needs)
        stack.enter_context(closing(source))
        a, b = (stack.enter_context(closing(one.pipeline(task, ort))) for one in opened)
        threshold = float(task.config()["score_threshold"])
        comparison = Comparison(min_score=min(1.0, threshold + _SCORE_MARGIN))
        return run_side_by_side(a, b, source, args.frames, comparison)


def _task(path: Path | None, opened: list[_Opened]) -> Task[object, object]:
    """Return what a model without a bundle means."""
    from av_compress.errors import ConfigError, UsageError
    from av_compress.tasks.registry import make_task
    from av_compress.yamlfile import load_yaml

    bundles = [one.bundle for one in opened if one.bundle is not None]
    if bundles and path is not None:
        raise UsageError("--task goes with two models; a bundle brings its own task")
    if bundles:
        return bundles[0].task()
    if path is None:
        raise UsageError("--data with two models needs --task TASK.yaml: what they mean")
    content = load_yaml(path)
    try:
        return make_task(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _whole(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise ValueError
        return value

    number.__name__ = f"whole number from {least}"  # argparse names it in its complaint.
    return number
