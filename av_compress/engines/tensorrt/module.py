# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The two packages that have TensorRT's Python API; this is their only importer.

`tensorrt` (Jetson, DRIVE, data centre; 8.6 to 11) and `tensorrt_rtx` (RTX cards; its builder needs
no GPU) are one code path: the module is a parameter. What a version has is found by looking for
it, not by its number.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from av_compress.errors import EngineError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from tensorrt_api import TensorRT

# Backend -> the extra that installs its package.
BACKENDS: Mapping[str, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}


def load_module(backend: str, purpose: str = "compiling a plan") -> TensorRT:
    """Import a backend's package.

    Args:
        backend: `tensorrt` or `tensorrt_rtx`.
        purpose: what it is needed for, for the error.

    Raises:
        UsageError: there is no such backend.
        MissingExtraError: the package is not installed.
        EngineError: it is installed, but does not load.

    """
    if backend not in BACKENDS:
        raise UsageError(f"backend {backend!r} is not allowed; allowed: {', '.join(BACKENDS)}")
    try:
        return cast("TensorRT", importlib.import_module(backend))
    except ModuleNotFoundError as error:
        raise MissingExtraError(backend, BACKENDS[backend], purpose) from error
    except (ImportError, OSError) as error:
        raise EngineError(f"the Python module '{backend}' does not load: {error}") from error


def member(enum: Any, name: str, what: str) -> Any:
    """Return a member of one of TensorRT's enums.

    Raises:
        UsageError: this version has no such member; those it has are named.

    """
    if not hasattr(enum, name):
        known = ", ".join(sorted(getattr(enum, "__members__", {}))) or "none"
        raise UsageError(f"this TensorRT has no {what} {name}; it has: {known}")
    return getattr(enum, name)


def types_from_graph(trt: TensorRT) -> bool:
    """Tell whether types can come from the graph: by a flag, or because there is no other way."""
    flagged = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    return flagged or not hasattr(trt.BuilderFlag, "INT8")


def takes_ranges(trt: TensorRT) -> bool:
    """Tell whether tensors can be given ranges, as DLA is quantised up to TensorRT 10."""
    return hasattr(trt.ITensor, "dynamic_range")


def compiles_ahead_of_time(trt: TensorRT) -> bool:
    """Tell whether plans are compiled for capabilities that are named, without a card."""
    return hasattr(trt.IBuilderConfig, "set_compute_capability")
