# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that run on a real card alone; without one they are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def context() -> Iterator[Any]:
    pytest.importorskip("pycuda.driver", reason="PyCUDA is not installed")
    from av_compress.engines.cuda import CudaContext

    with CudaContext.open() as context:
        yield context
