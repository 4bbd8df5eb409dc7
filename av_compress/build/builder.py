# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""From recipe to bundle: prepare, calibrate, quantise, judge, write."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2

from av_compress import __version__
from av_compress.build.basis import Basis, make_bases
from av_compress.build.gates import Judge, Observed, make_judge, measuring_pipeline
from av_compress.build.preparation import prepare, prove_on_frames
from av_compress.build.recipe import Recipe
from av_compress.build.samples import open_samples
from av_compress.build.search import search_basis
from av_compress.build.story import build_report
from av_compress.compress.emit.quantize import narrow_plan, quantize
from av_compress.compress.optimize.prepare import PreparedModel
from av_compress.compress.plan.precision import PrecisionRules
from av_compress.engines.bundle import MANIFEST_NAME, Bundle, load_bundle
from av_compress.engines.manifest import (
    ArtefactRecord,
    CalibrationRecord,
    Manifest,
    ModelRecord,
    NodeRecord,
)
from av_compress.engines.onnxruntime import quantises_half_exactly
from av_compress.errors import GateError
from av_compress.fileio import atomic_directory, sha256_bytes, sha256_file, write_text
from av_compress.progress import check_interrupt
from av_compress.report.build_page import write_build_report
from av_compress.tasks.base import Task

# Libraries whose version can change an artefact's bytes.
TOOLS = ("onnx", "onnx-ir", "onnxslim", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Candidate:
    """One emitted model and how it was judged.

    Attributes:
        emitter: which form it has.
        model: serialised ONNX.
        record: what the manifest says of it.
        observed: what it made of the gate samples; None without a gate.

    """

    emitter: str
    model: bytes
    record: ArtefactRecord
    observed: Observed | None


@dataclass(frozen=True)
class Build:
    """Everything a build found out, for the bundle and for its report.

    Attributes:
        recipe: what was asked for.
        prepared: the model after its preparation.
        bases: form -> what it was emitted from; forms may share one.
        judge: the gate; None without one.
        candidates: one for each form.
        manifest: of the bundle.

    """

    recipe: Recipe
    prepared: PreparedModel
    bases: Mapping[str, Basis]
    judge: Judge | None
    candidates: tuple[Candidate, ...]
    manifest: Manifest


def build_bundle(recipe: Recipe, output: Path) -> Bundle:
    """Build, judge and write a bundle.

    Args:
        recipe: what to build.
        output: the bundle's folder. It appears whole or not at all; an earlier bundle there stays
            until the new one is complete.

    Raises:
        ConfigError: the recipe does not fit the model or its sources.
        ModelError: the model cannot be compressed.
        DataError: samples are missing or unusable.
        GateError: a candidate loses more than the recipe allows; the report of the refused build
            is written beside `output`.

    """
    with atomic_directory(output, MANIFEST_NAME) as folder:
        build = make_build(recipe)
        refused = [c for c in build.candidates if c.record.gate and not c.record.gate.passed]
        if refused:
            report = output.with_name(f"{output.name}.refused.html")
            write_build_report(build_report(build), report)
            raise GateError(_refusal(refused, report))
        for candidate in build.candidates:
            path = folder / candidate.record.path
            path.parent.mkdir(parents=True)
            path.write_bytes(candidate.model)
        write_text(folder / MANIFEST_NAME, build.manifest.to_json())
        write_build_report(build_report(build), folder / "report.html")
        check_interrupt()
    return load_bundle(output)


def make_build(recipe: Recipe) -> Build:
    """Do all of a build but the writing; see `build_bundle`."""
    preparation = prepare(recipe)
    task, prepared = preparation.task, preparation.prepared
    rules = PrecisionRules.from_config(recipe.precision)
    with ExitStack() as stack:
        # Opened before anything that takes long: it tells whether the model fits the task.
        reference = stack.enter_context(
            closing(measuring_pipeline(task, prepared.model, exact=False))
        )
        samples = open_samples(recipe, stack)
        prepared = prove_on_frames(recipe, preparation, samples.calibration)
        bases = make_bases(recipe, prepared.model, rules, task, samples.calibration)
        if recipe.search is not None and recipe.gate is not None:
            # On the calibration frames: the gate's frames have to stay new to the candidate.
            seen = make_judge(recipe.gate, samples.calibration, reference)
            bases = {
                emitter: search_basis(emitter, basis, recipe.search, task, seen)
                for emitter, basis in bases.items()
            }
        judge = None
        if recipe.gate is not None and samples.gate is not None:
            judge = make_judge(recipe.gate, samples.gate, reference)
        candidates = tuple(
            _candidate(emitter, bases[emitter], task, judge) for emitter in recipe.emitters
        )
    # Every basis was calibrated on the same frames in the same way.
    record = bases[recipe.emitters[0]].calibration.record
    manifest = _manifest(recipe, task, record, candidates)
    return Build(recipe, prepared, bases, judge, candidates, manifest)


def tool_versions() -> dict[str, str]:
    """Return the versions of everything that can change an artefact's bytes."""
    return {
        "av_compress": __version__,
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        **{tool: version(tool) for tool in TOOLS},
    }


def _candidate(emitter: str, basis: Basis, task: Task[Any, Any], judge: Judge | None) -> Candidate:
    model, plan, calibration = basis.model, basis.plan, basis.calibration
    emitted = quantize(model, plan, calibration.ranges, calibration.magnitudes, emitter)
    data = emitted.SerializeToString(deterministic=True)
    # A form may have to leave in float what the other computes in INT8.
    plan = narrow_plan(model, plan, emitter)
    record = ArtefactRecord(
        path=f"{emitter}/model.onnx",
        sha256=sha256_bytes(data),
        bytes=len(data),
        int8_mac_share=round(plan.int8_mac_share(), 6),
        nodes=tuple(
            NodeRecord(node.node, node.op_type, node.precision.value, node.reason)
            for node in plan.nodes
        ),
        gate=None,
    )
    if judge is None:
        return Candidate(emitter, data, record, None)
    # The tensorrt form is judged as TensorRT would compute it, the cpu form as it is served.
    judged = emitted
    if emitter == "tensorrt" and not quantises_half_exactly():
        # Where FP16 would be simulated wrongly, the INT8 part is judged with FP32 around it.
        judged = quantize(
            model, plan.in_fp32(), calibration.ranges, calibration.magnitudes, emitter
        )
    with closing(measuring_pipeline(task, judged, exact=emitter == "tensorrt")) as pipeline:
        observed = judge.observe(pipeline, f"gate: {emitter}")
    return Candidate(emitter, data, replace(record, gate=judge.gate(observed)), observed)


def _manifest(
    recipe: Recipe,
    task: Task[Any, Any],
    calibration: CalibrationRecord,
    candidates: tuple[Candidate, ...],
) -> Manifest:
    size = recipe.model.stat().st_size
    return Manifest(
        name=recipe.name,
        source=ModelRecord(recipe.model.name, sha256_file(recipe.model), size),
        recipe=recipe.content,
        recipe_sha256=recipe.sha256,
        task=task.config(),
        calibration=calibration,
        artefacts={candidate.emitter: candidate.record for candidate in candidates},
        versions=tool_versions(),
    )


def _refusal(refused: list[Candidate], report: Path) -> str:
    parts = []
    for candidate in refused:
        gate = candidate.record.gate
        assert gate is not None
        parts.append(
            f"{candidate.emitter}: {gate.metric} fell from {gate.reference:.2f} to "
            f"{gate.candidate:.2f}, a loss of {gate.reference - gate.candidate:.2f} points on "
            f"{gate.frames} frames; allowed {gate.max_loss:.2f}"
        )
    return f"refused: {'; '.join(parts)}; no bundle was written; see {report}"
