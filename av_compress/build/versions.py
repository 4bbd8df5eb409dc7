# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Versions of everything that takes part in a build."""

from __future__ import annotations

import platform
from importlib.metadata import version

import cv2

from av_compress import __version__

# Libraries whose version can change an artefact's bytes.
TOOLS = ("onnx", "onnx-ir", "onnxslim", "onnxruntime", "numpy")


def tool_versions() -> dict[str, str]:
    """Return the versions of everything that can change an artefact's bytes."""
    return {
        "av_compress": __version__,
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        **{tool: version(tool) for tool in TOOLS},
    }
