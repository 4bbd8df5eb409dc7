# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress replay`: a bundle over a recorded drive, compared with a reference and judged."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from av_compress.cli.backends import add_backend_arguments, on_cpu, open_bundle_pipeline
from av_compress.cli.frames import add_topic_arguments, open_topic
from av_compress.engines.forms import FORMS

if TYPE_CHECKING:
    from av_compress.data.base import RecordedSource
    from av_compress.engines.bundle import Bundle
    from av_compress.engines.onnxruntime import OrtOptions
    from av_compress.metrics.replay import ReplayResult
    from av_compress.tasks.base import Task
    from av_compress.validate.replay import Contestant, ReplayOptions, Sink

HELP = "run a bundle over every frame of a bag, without ROS; compare it with a reference and judge"

_MIN_MATCHED = 0.95
# How far above the task's score threshold a box must lie to count when it has no partner.
_SCORE_MARGIN = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "bag", type=Path, metavar="BAG", help="bag folder, or a single .mcap or .db3 file"
    )
    parser.add_argument(
        "--bundle", type=Path, required=True, metavar="DIR", help="the bundle under test"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="DIR_OR_ONNX",
        help="compare with this bundle, or with this model under the bundle's own task",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="OUT.mcap",
        help="write a bag with the detections: OUT.mcap or OUT.db3 as a single file, any other "
        "name as a bag folder; never overwrites",
    )
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.html there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    add_topic_arguments(parser.add_argument_group("frames"))
    _add_engine_arguments(parser.add_argument_group("engine"))
    _add_comparison_arguments(parser.add_argument_group("comparison"))
    _add_gate_arguments(
        parser.add_argument_group(
            "gates", "exit code 1 when one of these does not hold; the first four need --reference"
        )
    )


def _add_engine_arguments(group: argparse._ArgumentGroup) -> None:
    add_backend_arguments(group)
    group.add_argument(
        "--emitter",
        choices=tuple(FORMS),
        help="which of the bundle's models ONNX Runtime runs; by default the one that suits it",
    )
    group.add_argument(
        "--threads", type=_count, default=0, metavar="N", help="threads of the model; 0: all cores"
    )


def _add_comparison_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--iou",
        type=_share,
        default=0.5,
        help="least overlap of matched boxes, in space of their footprints (default 0.5)",
    )
    group.add_argument(
        "--min-score",
        type=_share,
        help="boxes without a partner count from this score on (default: the task's score "
        f"threshold plus {_SCORE_MARGIN}, since a box at the threshold comes and goes)",
    )
    group.add_argument(
        "--worst", type=_count, default=8, metavar="N", help="worst frames in the report (8)"
    )


def _add_gate_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--min-matched",
        type=_share,
        help="least share of the reference's boxes that are found again "
        f"(default with --reference: {_MIN_MATCHED})",
    )
    group.add_argument(
        "--max-extra", type=_amount, help="most other boxes, as a share of the reference's"
    )
    group.add_argument("--min-iou", type=_share, help="least mean overlap of matched boxes")
    group.add_argument(
        "--max-score-shift", type=_share, help="largest mean change of score of matched boxes"
    )
    group.add_argument(
        "--max-p99-ms", type=_amount, help="largest 99th percentile of a frame's total time"
    )
    group.add_argument("--max-bad", type=_share, help="largest share of frames that are unusable")


def run(args: argparse.Namespace) -> int:
    """Replay, print the table, write what was asked for, and judge."""
    from av_compress.engines.bundle import load_bundle
    from av_compress.engines.onnxruntime import OrtOptions
    from av_compress.errors import GateError
    from av_compress.report.replay_page import replay_table, write_replay_report
    from av_compress.validate.replay import replay

    ort = OrtOptions(intra_op_threads=args.threads)
    with ExitStack() as stack:
        bundle = load_bundle(args.bundle)
        task = bundle.task()
        source = stack.enter_context(closing(open_topic(args, args.bag, task.frame_needs)))
        sink = _open_output(args.output, source, task, stack)
        candidate = _from_bundle(bundle, args, ort, stack)
        reference = None
        if args.reference is not None:
            reference = _open_reference(args, bundle, ort, stack)
        result = replay(source, candidate, reference, sink, _options(args, task))
    print(replay_table(result))
    if args.json is not None:
        _write_json(result, args.json)
    if args.report is not None:
        write_replay_report(result, args.report)
    failed = [gate for gate in result.gates if not gate.passed]
    if failed:
        raise GateError("; ".join(map(str, failed)))
    return 0


def _from_bundle(
    bundle: Bundle, args: argparse.Namespace, ort: OrtOptions, stack: ExitStack
) -> Contestant:
    from av_compress.metrics.replay import ReplayedModel
    from av_compress.validate.replay import Contestant

    pipeline, form = open_bundle_pipeline(bundle, args, ort)
    stack.enter_context(closing(pipeline))
    name = f"{bundle.root.resolve().name}/{form}"
    return Contestant(ReplayedModel(name, bundle.sha256, pipeline.engine.description), pipeline)


def _open_reference(
    args: argparse.Namespace, bundle: Bundle, ort: OrtOptions, stack: ExitStack
) -> Contestant:
    from av_compress.engines.bundle import load_bundle
    from av_compress.engines.onnxruntime import OnnxRuntimeEngine
    from av_compress.engines.pipeline import Pipeline
    from av_compress.errors import UsageError
    from av_compress.fileio import sha256_file
    from av_compress.metrics.replay import ReplayedModel
    from av_compress.validate.replay import Contestant

    path: Path = args.reference
    if path.is_dir():
        return _from_bundle(load_bundle(path), on_cpu(), ort, stack)
    if not path.is_file():
        raise UsageError(f"--reference {path} is neither a bundle's folder nor an ONNX file")
    pipeline = Pipeline(bundle.task(), OnnxRuntimeEngine(path, ort))
    stack.enter_context(closing(pipeline))
    model = ReplayedModel(path.name, sha256_file(path), pipeline.engine.description)
    return Contestant(model, pipeline)


def _options(args: argparse.Namespace, task: Task[object, object]) -> ReplayOptions:
    from av_compress.validate.compare import Comparison, Limits
    from av_compress.validate.replay import ReplayOptions

    min_score = args.min_score
    if min_score is None:
        min_score = min(1.0, task.config()["score_threshold"] + _SCORE_MARGIN)
    min_matched = args.min_matched
    if min_matched is None and args.reference is not None:
        min_matched = _MIN_MATCHED
    return ReplayOptions(
        Comparison(args.iou, min_score),
        Limits(
            min_matched=min_matched,
            max_extra=args.max_extra,
            min_iou=args.min_iou,
            max_score_shift=args.max_score_shift,
            max_p99_ms=args.max_p99_ms,
            max_bad=args.max_bad,
        ),
        args.worst,
    )


def _open_output(
    path: Path | None, source: RecordedSource, task: Task[object, object], stack: ExitStack
) -> Sink | None:
    """Open the output bag; it takes its place when `stack` is left without an exception."""
    if path is None:
        return None
    from av_compress.data.bag_writer import BagWriter
    from av_compress.validate.output import DetectionBag

    writer = stack.enter_context(BagWriter(path))
    return DetectionBag(writer, source, task)


def _write_json(result: ReplayResult, path: Path) -> None:
    from av_compress.fileio import canonical_json, write_text
    from av_compress.validate.summary import replay_json

    write_text(path, canonical_json(replay_json(result)))


def _number(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError
        return value

    number.__name__ = f"number from {low:g} to {high:g}"  # argparse names it in its complaint.
    return number


_share = _number(0.0, 1.0)
_amount = _number(0.0, 1e9)


def _count(text: str) -> int:
    return int(_number(0, 1e6)(text))
