# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress evaluate`: COCO average precision of a bundle or a model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_compress.cli.backends import add_backend_arguments, open_bundle_pipeline
from av_compress.engines.forms import FORMS, ONNXRUNTIME
from av_compress.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from av_compress.engines.pipeline import Pipeline
    from av_compress.report.tables import Table
    from av_compress.validate.evaluate import Evaluation

HELP = "measure COCO average precision of a bundle or an ONNX model on labelled images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--bundle", type=Path, metavar="DIR", help="the bundle to measure")
    what.add_argument("--model", type=Path, metavar="ONNX", help="a model; needs --task")
    parser.add_argument(
        "--task", type=Path, metavar="TASK.yaml", help="the model's task configuration"
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="COCO_JSON",
        help="annotations in COCO form",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="where the images are; by default the annotations' folder",
    )
    parser.add_argument(
        "--emitter",
        choices=tuple(FORMS),
        help="which of the bundle's models; by default the one for this machine",
    )
    add_backend_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print a table, write JSON."""
    from av_compress.data.coco import CocoSource
    from av_compress.fileio import canonical_json, write_text
    from av_compress.validate.evaluate import evaluate

    pipeline, identity = _open(args)
    with ExitStack() as stack:
        stack.enter_context(closing(pipeline))
        source = stack.enter_context(
            closing(CocoSource(args.data, args.images or args.data.parent))
        )
        evaluation = evaluate(pipeline, source)
    print(_table(evaluation).text())
    print(f"{evaluation.frames} images, {evaluation.detections} detections")
    if args.json is not None:
        engine = pipeline.engine.description
        write_text(args.json, canonical_json(_content(evaluation, identity, engine, args.data)))
    return 0


def _open(args: argparse.Namespace) -> tuple[Pipeline, dict[str, Any]]:
    """Open what is to be measured, and say what it is."""
    if args.bundle is not None:
        if args.task is not None:
            raise UsageError("--task goes with --model; a bundle brings its own task")
        return _open_bundle(args)
    if args.emitter is not None:
        raise UsageError("--emitter goes with --bundle; a model is run as it is")
    if args.backend != ONNXRUNTIME:
        raise UsageError("--backend goes with --bundle, whose plans it runs")
    if args.task is None:
        raise UsageError("--model needs --task TASK.yaml: what its inputs and outputs mean")
    return _open_model(args.model, args.task)


def _open_bundle(args: argparse.Namespace) -> tuple[Pipeline, dict[str, Any]]:
    from av_compress.engines.bundle import load_bundle
    from av_compress.engines.onnxruntime import OrtOptions

    bundle = load_bundle(args.bundle)
    pipeline, form = open_bundle_pipeline(bundle, args, OrtOptions())
    identity = {"name": bundle.manifest.name, "sha256": bundle.sha256}
    if args.backend == ONNXRUNTIME:
        identity |= {"emitter": form, "model_sha256": bundle.record(form).sha256}
    return pipeline, {"bundle": {**identity, "backend": args.backend}}


def _open_model(path: Path, task: Path) -> tuple[Pipeline, dict[str, Any]]:
    from av_compress.engines.onnxruntime import OnnxRuntimeEngine
    from av_compress.engines.pipeline import Pipeline
    from av_compress.fileio import sha256_file
    from av_compress.tasks.registry import make_task
    from av_compress.yamlfile import load_yaml

    content = load_yaml(task)
    try:
        meaning = make_task(content)
    except ConfigError as error:
        raise ConfigError(f"{task}: {error}") from error
    pipeline = Pipeline(meaning, OnnxRuntimeEngine(path))
    identity = {"name": path.name, "sha256": sha256_file(path), "task": meaning.config()}
    return pipeline, {"model": identity}


def _content(
    evaluation: Evaluation, identity: Mapping[str, Any], engine: str, data: Path
) -> dict[str, Any]:
    from av_compress.build.versions import tool_versions
    from av_compress.fileio import sha256_file

    accuracy = evaluation.accuracy
    return {
        **identity,
        "data": {
            "annotations": data.name,
            "sha256": sha256_file(data),
            "frames": evaluation.frames,
            "frames_sha256": evaluation.frames_sha256,
        },
        "engine": engine,
        "versions": tool_versions(),
        "detections": evaluation.detections,
        "ap": accuracy.ap,
        "ap50": accuracy.ap50,
        "ap75": accuracy.ap75,
        "per_class": {
            name: {"ap": figures.ap, "ap50": figures.ap50, "truths": figures.truths}
            for name, figures in accuracy.per_class.items()
        },
    }


def _table(evaluation: Evaluation) -> Table:
    from av_compress.report.numbers import points
    from av_compress.report.tables import Table

    accuracy = evaluation.accuracy
    rows = [
        (name, f"{one.truths}", points(one.ap50), points(one.ap))
        for name, one in accuracy.per_class.items()
    ]
    total = ("all classes", f"{accuracy.truths}", points(accuracy.ap50), points(accuracy.ap))
    return Table(("class", "objects", "AP50", "AP"), rows, footer=[total])
