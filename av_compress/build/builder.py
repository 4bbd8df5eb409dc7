# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""From recipe to bundle: prepare, calibrate, quantise, judge, write."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from av_compress.build.accounts import Compiler, open_compiler
from av_compress.build.attempts import (
    FormOutcome,
    Referee,
    attempt_form,
    int8_mac_share,
    serialise,
)
from av_compress.build.basis import make_bases
from av_compress.build.candidates import Maker
from av_compress.build.gates import Judge, make_judge, reference_pipeline
from av_compress.build.observing import DirectObserving, Observing
from av_compress.build.preparation import precision_rules, prepare, prove_on_frames
from av_compress.build.recipe import Recipe
from av_compress.build.samples import open_samples
from av_compress.build.story import build_report
from av_compress.build.variants import FORM as COMPILED_FORM
from av_compress.build.variants import choose_form
from av_compress.build.versions import tool_versions
from av_compress.compress.optimize.prepare import PreparedModel
from av_compress.compress.search.journal import Journal
from av_compress.engines.bundle import MANIFEST_NAME, Bundle, load_bundle
from av_compress.engines.forms import FORMS
from av_compress.engines.manifest import (
    ArtefactRecord,
    CalibrationRecord,
    Manifest,
    ModelRecord,
    NodeRecord,
)
from av_compress.engines.measurements import MEASUREMENTS_NAME, Measurements, describe_machine
from av_compress.errors import GateError
from av_compress.fileio import atomic_directory, write_text
from av_compress.progress import check_interrupt
from av_compress.report.build_page import write_build_report
from av_compress.tasks.base import Task

# Frames whose input tensors models are timed with, in turn.
TIMED_FRAMES = 4


@dataclass(frozen=True)
class Build:
    """Everything a build found out, for the bundle and for its report.

    Attributes:
        recipe: what was asked for.
        prepared: the model after its preparation.
        judge: the gate; None without one.
        forms: form -> what became of it.
        manifest: of the bundle.
        measurements: every time that was taken.

    """

    recipe: Recipe
    prepared: PreparedModel
    judge: Judge | None
    forms: Mapping[str, FormOutcome]
    manifest: Manifest
    measurements: Measurements


def build_bundle(
    recipe: Recipe,
    output: Path,
    observing: Observing | None = None,
    journal: Journal | None = None,
) -> Bundle:
    """Build, judge and write a bundle.

    Args:
        recipe: what to build.
        output: the bundle's folder. It appears whole or not at all; an earlier bundle there stays
            until the new one is complete.
        observing: where observations come from; by default a run over the samples.
        journal: what searches have measured earlier; by default nothing.

    Raises:
        ConfigError: the recipe does not fit the model or its sources.
        ModelError: the model cannot be compressed.
        DataError: samples are missing or unusable.
        MissingExtraError: the recipe compiles, and the backend's package is not installed.
        EngineError: the compiler takes no variant of the form, or wants a device that is not here.
        GateError: no candidate of a form passes every condition of the recipe; the report of the
            refused build is written beside `output`, until one is accepted there.

    """
    report = output.with_name(f"{output.name}.refused.html")
    with atomic_directory(output, MANIFEST_NAME) as folder:
        build = make_build(recipe, observing or DirectObserving(), journal or Journal())
        refused = [form for form in build.forms.values() if not form.accepted]
        if refused:
            write_build_report(build_report(build), report)
            reasons = "; ".join(form.refusal() for form in refused)
            raise GateError(f"refused: {reasons}; no bundle was written; see {report}")
        for emitter, form in build.forms.items():
            path = folder / build.manifest.artefacts[emitter].path
            path.parent.mkdir(parents=True)
            path.write_bytes(form.candidate.model)
        write_text(folder / MANIFEST_NAME, build.manifest.to_json())
        write_text(folder / MEASUREMENTS_NAME, build.measurements.to_json())
        write_build_report(build_report(build), folder / "report.html")
        check_interrupt()
    # An earlier build's: it would contradict the bundle.
    report.unlink(missing_ok=True)
    return load_bundle(output)


def make_build(recipe: Recipe, observing: Observing, journal: Journal) -> Build:
    """Do all of a build but the writing; see `build_bundle`."""
    # Loaded before anything that takes long: it may be absent.
    compiler = _compiler(recipe)
    preparation = prepare(recipe)
    task, prepared = preparation.task, preparation.prepared
    rules = precision_rules(recipe, task)
    with ExitStack() as stack:
        # Opened before anything that takes long: it tells whether the model fits the task.
        reference = stack.enter_context(closing(reference_pipeline(task, prepared.model)))
        samples = open_samples(recipe, task.frame_needs, stack)
        prepared = prove_on_frames(recipe, preparation, samples.calibration)
        judge = None
        if recipe.gate is not None and samples.gate is not None:
            # Before the calibration: a gate that cannot be judged is told at once.
            judge = make_judge(recipe.gate, samples.gate, reference)
        bases = make_bases(recipe, prepared.model, rules, task, samples.calibration, observing)
        maker = Maker(recipe, prepared, bases, task, samples, reference, journal)
        referee = None if judge is None else _referee(recipe, prepared, task, judge)
        forms = {
            emitter: _attempt(recipe, emitter, maker, referee, compiler)
            for emitter in recipe.emitters
        }
    # Every basis was calibrated on the same frames in the same way.
    record = bases[recipe.emitters[0]].calibration.record
    speed = tuple(one for form in forms.values() for one in form.speed)
    return Build(
        recipe=recipe,
        prepared=prepared,
        judge=judge,
        forms=forms,
        manifest=_manifest(recipe, task, record, forms, compiler),
        measurements=Measurements(describe_machine(), speed),
    )


def _compiler(recipe: Recipe) -> Compiler | None:
    if recipe.compile is None:
        return None
    return open_compiler(recipe.compile, recipe.optimize.max_batch)


def _attempt(
    recipe: Recipe,
    emitter: str,
    maker: Maker,
    referee: Referee | None,
    compiler: Compiler | None,
) -> FormOutcome:
    """Choose a form by what a compiler makes of it, or take its candidates in their order."""
    if emitter != COMPILED_FORM or compiler is None or recipe.compile is None:
        return attempt_form(emitter, recipe.candidates, maker, referee)
    return choose_form(maker, referee, compiler, recipe.compile)


def _referee(
    recipe: Recipe, prepared: PreparedModel, task: Task[Any, Any], judge: Judge
) -> Referee:
    frames = islice(judge.samples.frames("frames to time with"), TIMED_FRAMES)
    return Referee(
        judge=judge,
        task=task,
        source_bytes=recipe.model.bytes,
        fp32=serialise(prepared.model),
        inputs=tuple(task.preprocess(frame).tensors for frame in frames),
    )


def _manifest(
    recipe: Recipe,
    task: Task[Any, Any],
    calibration: CalibrationRecord,
    forms: Mapping[str, FormOutcome],
    compiler: Compiler | None,
) -> Manifest:
    versions = tool_versions()
    if compiler is not None:
        versions[compiler.backend] = compiler.version
    source = recipe.model
    return Manifest(
        name=recipe.name,
        source=ModelRecord(source.name, source.sha256(), source.bytes),
        recipe=recipe.content,
        recipe_sha256=recipe.sha256,
        task=task.config(),
        calibration=calibration,
        artefacts={emitter: _artefact(emitter, form) for emitter, form in forms.items()},
        versions=versions,
    )


def _artefact(emitter: str, form: FormOutcome) -> ArtefactRecord:
    candidate = form.candidate
    computed = FORMS[emitter].precision
    return ArtefactRecord(
        path=f"{emitter}/model.onnx",
        sha256=candidate.sha256,
        bytes=len(candidate.model),
        int8_mac_share=int8_mac_share(candidate),
        nodes=tuple(
            NodeRecord(node.node, node.op_type, computed(node.precision.value), node.reason)
            for node in candidate.plan.nodes
        ),
        gate=candidate.gate,
        attempts=form.attempts,
        choice=form.choice,
    )
