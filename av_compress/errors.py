# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The one exception family. A message says what was wrong, where, and what to do about it."""

from __future__ import annotations


class DataWarning(UserWarning):
    """Data can be used, but not all of it as wanted. The command line prints it in one line."""


class AvCompressError(Exception):
    """A foreseeable fault. The command line prints it in one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(AvCompressError):
    """Wrong arguments or configuration: nothing was started."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration breaks its schema; the message names key, value and what is allowed."""


class DataError(AvCompressError):
    """Samples cannot be read or used: missing topic, truncated bag, no images, NaN values."""


class FrameError(DataError):
    """One frame or message cannot be decoded. A node counts it and serves the next one."""


class ModelError(AvCompressError):
    """An ONNX model is invalid, unsupported, or does not fit its task."""


class EngineError(AvCompressError):
    """A backend cannot load or run a model."""


class BundleError(AvCompressError):
    """A bundle is refused.

    Attributes:
        reason: machine-readable name of the refusal, one of `engines.manifest.REFUSALS`.

    """

    def __init__(self, reason: str, message: str) -> None:
        """Keep `reason` apart from the text, so that callers can branch on it."""
        super().__init__(f"{message} [{reason}]")
        self.reason = reason


class GateError(AvCompressError):
    """A measured condition does not hold; the message names metric, value and limit."""


class MissingExtraError(AvCompressError):
    """An optional dependency is absent; the message names the extra that brings it."""

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        """Name the `module` that is missing, the `extra` that installs it, and what for."""
        super().__init__(
            f"{purpose} needs the Python module '{module}'; "
            f"install it with: pip install 'av_compress[{extra}]'"
        )
