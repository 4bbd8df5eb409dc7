# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""CUDA where it is not: without PyCUDA, and without a driver."""

import ctypes
import importlib.util
import sys

import pytest

from av_compress.engines.cuda import CudaContext, CudaError, find_device, list_devices
from av_compress.errors import AvCompressError, MissingExtraError


def driver_is_here() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.parametrize("ask", [list_devices, find_device, CudaContext.open])
def test_without_pycuda_the_extra_is_named(ask, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(MissingExtraError, match=r"'pycuda'.*av_compress\[cuda\]"):
        ask()


@pytest.mark.skipif(importlib.util.find_spec("pycuda") is None, reason="PyCUDA is not installed")
@pytest.mark.skipif(driver_is_here(), reason="there is a CUDA driver here")
@pytest.mark.parametrize("ask", [list_devices, find_device, CudaContext.open])
def test_without_a_driver_it_is_said_what_is_missing(ask):
    with pytest.raises(CudaError, match=r"no libcuda\.so\.1 .*install NVIDIA's driver") as caught:
        ask()
    assert caught.value.reason == "no_driver"
    assert isinstance(caught.value, AvCompressError)


def test_importing_it_loads_no_pycuda():
    assert "pycuda.driver" not in sys.modules or driver_is_here()
