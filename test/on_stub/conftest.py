# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests on the driver's stub. They run where it is loaded, and only there."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
from helpers_cuda_shim import HostCompiler
from helpers_cuda_stub import LIBRARY, Stub

import av_compress.engines.kernels.compile as kernels_compile
from av_compress.engines.cuda import CudaContext


def pytest_sessionstart() -> None:
    try:
        found = hasattr(ctypes.CDLL(LIBRARY), "stub_reset")
    except OSError:
        found = False
    if not found:
        pytest.exit(f"{LIBRARY} is not the stub: run test/test_on_stub.py", returncode=2)


@pytest.fixture
def stub() -> Iterator[Stub]:
    """Give a fresh device; afterwards nothing may live on it, and nothing be pushed."""
    stub = Stub()
    stub.reset()
    yield stub
    assert stub.pushed() == 0
    assert stub.all_live() == {}


@pytest.fixture
def context(stub: Stub) -> Iterator[CudaContext]:
    with CudaContext.open() as context:
        yield context


@pytest.fixture(autouse=True)
def host_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile kernels for the processor that plays the device."""
    monkeypatch.setattr(kernels_compile, "find_compiler", lambda device: HostCompiler())
