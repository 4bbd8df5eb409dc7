# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What parser, builder and runtime say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorrt_api import TensorRT


def make_log(trt: TensorRT) -> Any:
    """Return a logger of this module's own class: each module has another base.

    It keeps `errors`, `warnings` and `details` (the lines that list a plan's layers); `said()`
    joins the errors, each once; `forget()` begins anew.
    """
    severities = trt.ILogger

    class Log(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.details: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in {severities.INTERNAL_ERROR, severities.ERROR}:
                self.errors.append(message)
            elif severity == severities.WARNING:
                self.warnings.append(message)
            elif "LayerType: " in message:
                self.details.append(message)

        def forget(self) -> None:
            for lines in (self.errors, self.warnings, self.details):
                lines.clear()

        def said(self) -> str:
            return "; ".join(dict.fromkeys(line.strip() for line in self.errors))

    return Log()
