# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles on disk: verified before anything in them is used."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from av_compress.engines.base import Engine
from av_compress.engines.batch import BatchPipeline
from av_compress.engines.forms import BACKENDS, FORMS, ON_CPU, ON_GPU, ONNXRUNTIME
from av_compress.engines.manifest import ArtefactRecord, Manifest
from av_compress.engines.onnxruntime import CUDA, OnnxRuntimeEngine, OrtOptions
from av_compress.engines.pipeline import Pipeline, Where
from av_compress.engines.plans.store import PlanStore
from av_compress.engines.trust.keys import TrustedKeys
from av_compress.engines.trust.signatures import verify_file
from av_compress.errors import BundleError, ConfigError, UsageError
from av_compress.fileio import sha256_bytes
from av_compress.tasks.base import Task
from av_compress.tasks.registry import make_task

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        root: its folder.
        manifest: what it says of itself.
        sha256: hash of manifest.json, the bundle's identity.
        keys: those of which one signed it, and one must have signed each plan; None where no
            signature is required.

    """

    root: Path
    manifest: Manifest
    sha256: str
    keys: TrustedKeys | None = None

    @property
    def manifest_path(self) -> Path:
        """Path of manifest.json."""
        return self.root / MANIFEST_NAME

    def plans(self) -> PlanStore:
        """Return the store of its plans, which gives out none that may not be used."""
        return PlanStore.of(self.root, self.keys)

    def task(self) -> Task[Any, Any]:
        """Make the task the model was calibrated and judged with.

        Raises:
            BundleError: `task_invalid`.

        """
        try:
            return make_task(self.manifest.task)
        except ConfigError as error:
            raise BundleError("task_invalid", f"{self.root}: {error}") from error

    def record(self, emitter: str) -> ArtefactRecord:
        """Return the record of an emitter's artefact.

        Raises:
            BundleError: `no_artefact`.

        """
        if emitter not in self.manifest.artefacts:
            held = ", ".join(sorted(self.manifest.artefacts))
            raise BundleError(
                "no_artefact",
                f"{self.root} has no artefact for emitter '{emitter}', only: {held}; "
                f"add it to the recipe's emitters and build again",
            )
        return self.manifest.artefacts[emitter]

    def artefact(self, emitter: str) -> Path:
        """Return the path of an emitter's model."""
        return self.root / self.record(emitter).path

    def read_artefact(self, emitter: str) -> bytes:
        """Read an emitter's model and verify exactly the bytes that are returned.

        Raises:
            BundleError: see `engines.manifest.REFUSALS`.

        """
        return read_verified(self.root, self.record(emitter))

    def default_emitter(self, options: OrtOptions, backend: str = ONNXRUNTIME) -> str:
        """Choose the artefact that suits what runs it: `tensorrt`'s form on a GPU, else `cpu`."""
        on_gpu = backend != ONNXRUNTIME or CUDA in options.providers
        wanted = ON_GPU if on_gpu else ON_CPU
        return next((name for name in wanted if name in self.manifest.artefacts), wanted[0])

    def require_accepted(self, emitter: str) -> None:
        """Refuse an artefact that failed its gate.

        Raises:
            BundleError: `no_artefact` or `not_accepted`.

        """
        record = self.record(emitter)
        if record.refused or (record.gate is not None and not record.gate.passed):
            raise BundleError(
                "not_accepted", f"{self.root}: the {emitter} artefact failed its gate"
            )

    def open_engine(
        self,
        backend: str = ONNXRUNTIME,
        options: OrtOptions | None = None,
        emitter: str | None = None,
        device: int | str = 0,
        batches: tuple[int, int] = (1, 1),
    ) -> Engine:
        """Load a model of this bundle.

        Args:
            backend: `onnxruntime`, `tensorrt` or `tensorrt_rtx`.
            options: how ONNX Runtime runs it.
            emitter: which artefact ONNX Runtime runs; by default the one that suits the provider.
            device: index or UUID of the card that TensorRT runs it on.
            batches: smallest and largest that the plan is to run.

        Raises:
            BundleError: the artefact is missing, changed, or failed its gate.
            EngineError: the backend refuses the model, or no plan fits; see `open_plan`.
            UsageError: unknown backend or device, or an emitter for a plan, which has its own.

        """
        if backend not in BACKENDS:
            raise UsageError(f"backend {backend!r} is not allowed; allowed: {', '.join(BACKENDS)}")
        if backend != ONNXRUNTIME:
            if emitter is not None:
                raise UsageError(
                    f"the backend {backend} runs the plan that fits the card, whatever it was "
                    "compiled of; an emitter is chosen for onnxruntime alone"
                )
            # Heavy, and of use on a vehicle computer alone.
            from av_compress.engines.tensorrt.open import open_plan

            return open_plan(self, backend, device, batches=batches)
        options = options or OrtOptions()
        emitter = emitter or self.default_emitter(options)
        self.require_accepted(emitter)
        options = self.runtime_options(emitter, options)
        return OnnxRuntimeEngine(self.read_artefact(emitter), options)

    def runtime_options(self, emitter: str, options: OrtOptions) -> OrtOptions:
        """Return how ONNX Runtime must run an artefact so that its numbers are right."""
        if FORMS[emitter].computes_pairs(CUDA in options.providers):
            return replace(options, exact_quantization=True)
        return options

    def open_pipeline(
        self,
        backend: str = ONNXRUNTIME,
        options: OrtOptions | None = None,
        emitter: str | None = None,
        batched: bool = False,
        device: int | str = 0,
        preprocess: Where = "auto",
    ) -> Pipeline:
        """Load a model of this bundle together with its task; see `open_engine`.

        Args:
            backend: see `open_engine`.
            options: see `open_engine`.
            emitter: see `open_engine`.
            batched: take several frames at once, as many as the bundle was built for.
            device: see `open_engine`.
            preprocess: where frames are prepared; the bits are the same. `device`: on the card
                that runs the model; `auto`: there where it can be; `host`: never there.

        Raises:
            EngineError: see `open_engine`; or `device` is asked for and cannot be had.

        """
        task = self.task()
        batch = self.manifest.max_batch
        wanted = (1, batch if batched else 1)
        engine = self.open_engine(backend, options, emitter, device, wanted)
        with ExitStack() as stack:
            stack.callback(engine.close)
            if backend != ONNXRUNTIME:
                from av_compress.engines.kernels.join import join

                made = join(task, engine, batch if batched else 1, preprocess)
            elif preprocess == "device":
                raise UsageError("preprocess on the device goes with a plan, not with onnxruntime")
            else:
                made = BatchPipeline(task, engine, batch) if batched else Pipeline(task, engine)
            stack.pop_all()
        return made


def load_bundle(root: Path, keys: TrustedKeys | None = None) -> Bundle:
    """Load a bundle and verify the hash of every artefact.

    Args:
        root: its folder.
        keys: refuse a bundle that none of these signed; None: no signature is required.

    Raises:
        BundleError: with a reason of `engines.manifest.REFUSALS`.

    """
    data = read_manifest(root)
    if keys is not None:
        # Before a byte of it is understood.
        verify_file("manifest", root / MANIFEST_NAME, data, keys)
    manifest = parse_manifest(root, data)
    for record in manifest.artefacts.values():
        read_verified(root, record)
    return Bundle(root, manifest, sha256_bytes(data), keys)


def read_manifest(root: Path) -> bytes:
    """Read a bundle's manifest.json.

    Raises:
        BundleError: `not_a_bundle` or `manifest_unreadable`.

    """
    path = root / MANIFEST_NAME
    if not path.is_file():
        raise BundleError(
            "not_a_bundle",
            f"{root} is not a bundle: it has no {MANIFEST_NAME}; make one with: "
            f"av-compress build RECIPE.yaml --output {root}",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError("manifest_unreadable", f"{path} cannot be read: {error}") from error


def parse_manifest(root: Path, data: bytes) -> Manifest:
    """Parse the content of a bundle's manifest.json.

    Raises:
        BundleError: `manifest_unreadable`, `schema_version` or `manifest_invalid`.

    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(
            "manifest_unreadable", f"{root / MANIFEST_NAME} cannot be read: {error}"
        ) from error
    return Manifest.from_json(text)


def read_verified(root: Path, record: ArtefactRecord) -> bytes:
    """Read an artefact and verify exactly the bytes that are returned.

    Raises:
        BundleError: `artefact_path`, `artefact_missing` or `artefact_hash`.

    """
    path = root / record.path
    if not path.resolve().is_relative_to(root.resolve()):
        raise BundleError(
            "artefact_path", f"{root}: artefact path {record.path!r} leaves the folder"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(
            "artefact_missing", f"{path} cannot be read: {error.strerror}"
        ) from error
    if sha256_bytes(data) != record.sha256:
        raise BundleError(
            "artefact_hash",
            f"{path} is not the file that was built: its SHA-256 differs from the manifest's; "
            f"build the bundle again or restore the file",
        )
    return data
