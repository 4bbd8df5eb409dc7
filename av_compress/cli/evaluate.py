# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress evaluate`: average precision of a bundle or a model on labelled frames."""

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
    from av_compress.data.base import LabelledSource
    from av_compress.engines.pipeline import Pipeline
    from av_compress.tasks.base import FrameNeeds
    from av_compress.validate.evaluate import Evaluation

HELP = "measure average precision of a bundle or an ONNX model on labelled images or clouds"

_VIEW = "camera"


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
        metavar="COCO_JSON|KITTI",
        help="annotations in COCO form, or a folder in KITTI's layout (velodyne, calib, label_2)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="where the images of annotations are; by default the annotations' folder",
    )
    parser.add_argument(
        "--split",
        type=Path,
        metavar="FILE",
        help="of KITTI: a text file with the names of the clouds to take; by default all",
    )
    parser.add_argument(
        "--view",
        choices=("camera", "whole"),
        help="of KITTI: the points that the camera sees, as objects are labelled there alone "
        "(default), or all",
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
    from av_compress.fileio import canonical_json, write_text
    from av_compress.validate.evaluate import evaluate

    pipeline, identity = _open(args)
    with ExitStack() as stack:
        stack.enter_context(closing(pipeline))
        source = stack.enter_context(closing(_open_data(args, pipeline.task.frame_needs)))
        evaluation = evaluate(pipeline, source)
    _print(evaluation, f"{pipeline.task.frame_needs.noun}s")
    if args.json is not None:
        engine = pipeline.engine.description
        write_text(args.json, canonical_json(_content(evaluation, identity, engine, args)))
    return 0


def _open_data(args: argparse.Namespace, needs: FrameNeeds) -> LabelledSource:
    """Open the labelled frames that --data names, and that the task takes."""
    from av_compress.data.base import LabelledSource
    from av_compress.data.sources import open_source

    if args.data.is_dir():
        if args.images is not None:
            raise UsageError("--images goes with annotations in COCO form (--data FILE.json)")
        config = {"type": "kitti", "path": str(args.data), "view": args.view or _VIEW}
        if args.split is not None:
            config["split"] = str(args.split)
    else:
        for name in ("split", "view"):
            if getattr(args, name) is not None:
                raise UsageError(f"--{name} goes with a folder in KITTI's layout (--data DIR)")
        images = args.images or args.data.parent
        config = {"type": "coco", "path": str(images), "annotations": str(args.data)}
    source = open_source(config, Path(), needs)
    assert isinstance(source, LabelledSource)
    return source


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
    evaluation: Evaluation, identity: Mapping[str, Any], engine: str, args: argparse.Namespace
) -> dict[str, Any]:
    from av_compress.build.versions import tool_versions
    from av_compress.report.accuracy_tables import accuracy_json, kitti_json

    return {
        **identity,
        "data": {
            **_identity(args),
            "frames": evaluation.frames,
            "frames_sha256": evaluation.frames_sha256,
            "labels_sha256": evaluation.labels_sha256,
        },
        "engine": engine,
        "versions": tool_versions(),
        "detections": evaluation.detections,
        **accuracy_json(evaluation.accuracy),
        **({"kitti": kitti_json(evaluation.kitti)} if evaluation.kitti else {}),
    }


def _identity(args: argparse.Namespace) -> dict[str, Any]:
    from av_compress.fileio import sha256_file

    data: Path = args.data
    if data.is_dir():
        split = None if args.split is None else args.split.name
        return {"kitti": data.resolve().name, "view": args.view or _VIEW, "split": split}
    return {"annotations": data.name, "sha256": sha256_file(data)}


def _print(evaluation: Evaluation, frames: str) -> None:
    from av_compress.report.accuracy_tables import accuracy_table, kitti_table

    if evaluation.kitti:
        print("KITTI's protocol:")
        print(kitti_table(evaluation.kitti).text())
        print("\nCOCO's protocol, by the overlap of footprints in bird's eye view, as in gates:")
    print(accuracy_table(evaluation.accuracy).text())
    print(f"{evaluation.frames} {frames}, {evaluation.detections} detections")
