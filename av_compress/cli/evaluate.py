# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress evaluate`: COCO average precision of a bundle or a model."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av_compress.engines.pipeline import Pipeline
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
        choices=("tensorrt", "cpu"),
        help="which of the bundle's models; by default the one for this machine",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print a table, write JSON."""
    from av_compress.data.coco import CocoSource
    from av_compress.fileio import canonical_json, sha256_file, write_text
    from av_compress.validate.evaluate import evaluate

    with ExitStack() as stack:
        pipeline, identity = _open(args)
        stack.enter_context(closing(pipeline))
        source = stack.enter_context(
            closing(CocoSource(args.data, args.images or args.data.parent))
        )
        evaluation = evaluate(pipeline, source)
        description = pipeline.engine.description
    print(_table(evaluation))
    if args.json is not None:
        content = {
            **identity,
            "data": {"annotations": args.data.name, "sha256": sha256_file(args.data)},
            "engine": description,
            "frames": evaluation.frames,
            "detections": evaluation.detections,
            **_figures(evaluation),
        }
        write_text(args.json, canonical_json(content))
    return 0


def _open(args: argparse.Namespace) -> tuple[Pipeline, dict[str, Any]]:
    from av_compress.build.recipe import load_yaml
    from av_compress.engines.bundle import load_bundle
    from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
    from av_compress.engines.pipeline import Pipeline
    from av_compress.errors import UsageError
    from av_compress.fileio import sha256_file
    from av_compress.tasks.registry import make_task

    if args.bundle is not None:
        if args.task is not None:
            raise UsageError("--task goes with --model; a bundle brings its own task")
        bundle = load_bundle(args.bundle)
        emitter = args.emitter or bundle.default_emitter(OrtOptions())
        identity = {"bundle": bundle.manifest.name, "sha256": bundle.sha256, "emitter": emitter}
        engine = bundle.open_engine(emitter=emitter)
        return Pipeline(bundle.task().for_measuring(), engine), identity
    if args.task is None or args.emitter is not None:
        raise UsageError("--model needs --task TASK.yaml, and goes without --emitter")
    task = make_task(load_yaml(args.task))
    pipeline = Pipeline(task.for_measuring(), OnnxRuntimeEngine(args.model))
    return pipeline, {"model": args.model.name, "sha256": sha256_file(args.model)}


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    accuracy = evaluation.accuracy
    return {
        "ap": accuracy.ap,
        "ap50": accuracy.ap50,
        "ap75": accuracy.ap75,
        "per_class": {
            name: {"ap": figures.ap, "ap50": figures.ap50, "truths": figures.truths}
            for name, figures in accuracy.per_class.items()
        },
    }


def _table(evaluation: Evaluation) -> str:
    accuracy = evaluation.accuracy
    width = max(len(name) for name in ("all classes", *accuracy.per_class))
    lines = [f"{'class':<{width}}  {'objects':>7}  {'AP50':>6}  {'AP':>6}"]
    rows = [(name, c.truths, c.ap50, c.ap) for name, c in accuracy.per_class.items()]
    rows.append(("all classes", accuracy.truths, accuracy.ap50, accuracy.ap))
    for name, truths, ap50, ap in rows:
        lines.append(f"{name:<{width}}  {truths:>7}  {100 * ap50:6.2f}  {100 * ap:6.2f}")
    lines.append(f"{evaluation.frames} images, {evaluation.detections} detections")
    return "\n".join(lines)
