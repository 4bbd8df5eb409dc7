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
from av_compress.errors import ConfigError, DataError, UsageError

if TYPE_CHECKING:
    from av_compress.data.base import LabelledSource
    from av_compress.engines.pipeline import Pipeline
    from av_compress.tasks.base import FrameNeeds
    from av_compress.validate.evaluate import Evaluation

HELP = "measure average precision of a bundle or an ONNX model on labelled images or clouds"

_VIEW = "camera"
# What an argument goes with.
_PARTNERS = {
    "images": "annotations in COCO form (--data FILE.json)",
    "split": "a folder in KITTI's or nuScenes' layout (--data DIR)",
    "tables": "a folder in nuScenes' layout (--data DIR)",
    "view": "a folder in KITTI's layout (--data DIR)",
}


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
        metavar="COCO_JSON|FOLDER",
        help="annotations in COCO form, or a folder in KITTI's layout (velodyne, calib, label_2) "
        "or in nuScenes' (samples, and tables in a folder such as v1.0-mini)",
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
        help="of KITTI: a text file with the names of the clouds to take, of nuScenes: of the "
        "scenes; by default all",
    )
    parser.add_argument(
        "--tables",
        metavar="NAME",
        help="of nuScenes: the folder of tables, such as v1.0-trainval; by default the only one",
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
        data = _data(args)
        source = stack.enter_context(closing(_open_data(data, pipeline.task.frame_needs)))
        evaluation = evaluate(pipeline, source)
    _print(evaluation, f"{pipeline.task.frame_needs.noun}s")
    if args.json is not None:
        engine = pipeline.engine.description
        content = _content(evaluation, {**identity, "data": _identity(data)}, engine)
        write_text(args.json, canonical_json(content))
    return 0


def _data(args: argparse.Namespace) -> dict[str, str]:
    """Return as a source's configuration what --data names, and what goes with it."""
    from av_compress.data.sources import labelled_type

    path: Path = args.data
    if not path.is_dir():
        _refuse(args, "split", "tables", "view")
        images = args.images or path.parent
        return {"type": "coco", "path": str(images), "annotations": str(path)}
    _refuse(args, "images")
    kind = labelled_type(path)
    if kind is None:
        raise DataError(
            f"{path} is in neither layout: KITTI's has a folder velodyne, nuScenes' a folder "
            "such as v1.0-mini that holds a sample.json"
        )
    config = {"type": kind, "path": str(path)}
    if args.split is not None:
        config["split"] = str(args.split)
    return {**config, **_KINDS[kind](args)}


def _kitti(args: argparse.Namespace) -> dict[str, str]:
    _refuse(args, "tables")
    return {"view": args.view or _VIEW}


def _nuscenes(args: argparse.Namespace) -> dict[str, str]:
    from av_compress.data.nuscenes import find_version

    _refuse(args, "view")
    return {"version": args.tables or find_version(args.data)}


_KINDS = {"kitti": _kitti, "nuscenes": _nuscenes}


def _refuse(args: argparse.Namespace, *names: str) -> None:
    """Refuse arguments that go with other data."""
    for name in names:
        if getattr(args, name) is not None:
            raise UsageError(f"--{name} goes with {_PARTNERS[name]}")


def _open_data(config: Mapping[str, str], needs: FrameNeeds) -> LabelledSource:
    """Open the labelled frames that a task takes."""
    from av_compress.data.base import LabelledSource
    from av_compress.data.sources import open_source

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


def _content(evaluation: Evaluation, identity: Mapping[str, Any], engine: str) -> dict[str, Any]:
    from av_compress.build.versions import tool_versions
    from av_compress.report.accuracy_tables import accuracy_json, kitti_json, nuscenes_json

    found = evaluation.nuscenes
    return {
        **identity,
        "data": {
            **identity["data"],
            "frames": evaluation.frames,
            "frames_sha256": evaluation.frames_sha256,
            "labels_sha256": evaluation.labels_sha256,
        },
        "engine": engine,
        "versions": tool_versions(),
        "detections": evaluation.detections,
        **accuracy_json(evaluation.accuracy),
        **({"kitti": kitti_json(evaluation.kitti)} if evaluation.kitti else {}),
        **({} if found is None else {"nuscenes": nuscenes_json(found)}),
    }


def _identity(data: Mapping[str, str]) -> dict[str, Any]:
    """Say what the data are, without where they are."""
    from av_compress.fileio import sha256_file

    if data["type"] == "coco":
        annotations = Path(data["annotations"])
        return {"annotations": annotations.name, "sha256": sha256_file(annotations)}
    split = data.get("split")
    return {
        **{name: value for name, value in data.items() if name in ("view", "version")},
        data["type"]: Path(data["path"]).resolve().name,
        "split": None if split is None else Path(split).name,
    }


def _print(evaluation: Evaluation, frames: str) -> None:
    from av_compress.report.accuracy_tables import accuracy_table, kitti_table, nuscenes_table

    if evaluation.nuscenes is not None:
        print("nuScenes' protocol:")
        print(nuscenes_table(evaluation.nuscenes).text())
    if evaluation.kitti:
        print("KITTI's protocol:")
        print(kitti_table(evaluation.kitti).text())
    if evaluation.kitti or evaluation.nuscenes is not None:
        print("\nCOCO's protocol, by the overlap of footprints in bird's eye view, as in gates:")
    print(accuracy_table(evaluation.accuracy).text())
    print(f"{evaluation.frames} {frames}, {evaluation.detections} detections")
