# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a node's parameters ask for: bundle, keys, runtime options, limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from av_compress.engines.bundle import Bundle, load_bundle
from av_compress.engines.forms import FORMS, ONNXRUNTIME
from av_compress.engines.onnxruntime import CUDA, OrtOptions
from av_compress.engines.pipeline import Where
from av_compress.engines.trust.keys import TrustedKeys
from av_compress.errors import ConfigError
from av_compress.telemetry.monitor import Limits, Monitor


def load(parameters: Mapping[str, Any], name: str, task_kind: str) -> Bundle:
    """Load the bundle that `bundle_path` names.

    Args:
        parameters: of the node.
        name: of the node's kind.
        task_kind: the task that its bundles must have.

    Raises:
        ConfigError: none is named, it holds another task, or a key is missing.
        BundleError: see `load_bundle`.

    """
    path = parameters["bundle_path"]
    if not path:
        raise ConfigError(
            "parameter bundle_path is empty; give the folder that "
            "`av-compress build RECIPE.yaml --output DIR` wrote"
        )
    bundle = load_bundle(Path(path).expanduser(), _required_keys(parameters))
    kind = bundle.manifest.task["kind"]
    if kind != task_kind:
        raise ConfigError(
            f"parameter bundle_path: {path} holds a {kind} model; {name} serves {task_kind}"
        )
    return bundle


def _required_keys(parameters: Mapping[str, Any]) -> TrustedKeys | None:
    """Return the keys of which one must have signed the bundle; None where none need have."""
    if not parameters["require_signature"]:
        return None
    paths = [Path(name).expanduser() for name in parameters["trusted_keys"] if name]
    if not paths:
        raise ConfigError(
            "parameter require_signature is true, but trusted_keys names no public key; "
            "write one with: openssl pkey -in private.pem -pubout -out public.pem"
        )
    return TrustedKeys.load(paths)


def ort_options(parameters: Mapping[str, Any]) -> OrtOptions:
    """Return how ONNX Runtime is to run a model."""
    section = parameters["onnxruntime"]
    return OrtOptions(
        providers=tuple(section["providers"]),
        intra_op_threads=section["intra_op_threads"],
        inter_op_threads=section["inter_op_threads"],
        provider_options={CUDA: {"device_id": str(parameters["gpu_id"])}},
        session_config={"session.intra_op.allow_spinning": str(int(section["allow_spinning"]))},
    )


def make_monitor(parameters: Mapping[str, Any]) -> Monitor:
    """Return what watches over one input."""
    section = parameters["diagnostics"]
    limits = {key: value for key, value in section.items() if key not in {"period_s", "window_s"}}
    return Monitor(Limits(deadline_ms=parameters["deadline_ms"], **limits), section["window_s"])


def hardware(backend: str, options: OrtOptions) -> str:
    """Name what runs the model, for diagnostics."""
    return f"{backend} {options.providers[0]}" if backend == ONNXRUNTIME else backend


def where(parameters: Mapping[str, Any]) -> Where:
    """Return where frames are prepared; ONNX Runtime has no choice."""
    if parameters["backend"] == ONNXRUNTIME:
        return "host"
    wanted: Where = parameters["preprocess"]
    return wanted


def identity(
    bundle: Bundle, options: OrtOptions, parameters: Mapping[str, Any], batched: bool
) -> dict[str, str]:
    """Return what diagnostics say of a bundle, and of the plan that is served.

    Args:
        bundle: it is served.
        options: how ONNX Runtime would run it.
        parameters: of the node.
        batched: whether several frames are served at once.

    Raises:
        EngineError, CudaError: see `plan_for`.

    """
    backend = parameters["backend"]
    found = {"bundle": bundle.manifest.name, "bundle_sha256": bundle.sha256}
    if backend == ONNXRUNTIME:
        emitter = bundle.default_emitter(options)
        return {**found, "precision": _precision(bundle, emitter)}
    # Heavy, and of use on a vehicle computer alone.
    from av_compress.engines.cuda import find_device
    from av_compress.engines.tensorrt.open import plan_for

    batches = (1, bundle.manifest.max_batch if batched else 1)
    record = plan_for(bundle, backend, find_device(parameters["gpu_id"]), batches)
    precision = _precision(bundle, record.target.emitter)
    differing = sum(bool(node["differs"]) for node in record.account["nodes"])
    if differing:
        precision += f", {differing} nodes of them compiled to float"
    return {**found, "plan": record.target.key, "precision": precision}


def _precision(bundle: Bundle, emitter: str) -> str:
    share = bundle.record(emitter).int8_mac_share
    quantised = FORMS[emitter].quantised
    otherwise = "float" if quantised == "int8" else quantised
    return f"int8 ({share:.0%} of multiply-accumulates)" if share else otherwise
