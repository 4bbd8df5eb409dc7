# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The stand-in for TensorRT over the stub of the driver. Nothing here was on a GPU."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import pytest
from helpers_cuda_stub import LIBRARY
from trt_stand_in import Control, make_module

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Launcher:
    """Puts the stand-in's work into the stub's streams."""

    def __init__(self) -> None:
        self._driver = ctypes.CDLL(LIBRARY)
        self._driver.cuLaunchHostFunc.argtypes = [ctypes.c_void_p] * 3
        # Graphs run a function again and again: none may be collected.
        self._kept: list[Any] = []

    def __call__(self, stream: int, work: Callable[[], None]) -> None:
        function = _HOST_FUNCTION(lambda _: work())
        self._kept.append(function)
        assert (
            self._driver.cuLaunchHostFunc(stream, ctypes.cast(function, ctypes.c_void_p), 0) == 0
        )


def install(monkeypatch: pytest.MonkeyPatch, version: str) -> Control:
    """Let a version be the one that is installed."""
    module, control = make_module(version, Launcher())
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return control
