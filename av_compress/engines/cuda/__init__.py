# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""CUDA for the engines: devices, one owning thread, streams, events, buffers, graphs, kernels."""

from av_compress.engines.cuda.context import CudaContext
from av_compress.engines.cuda.devices import Device, find_device, list_devices
from av_compress.engines.cuda.errors import CudaError
from av_compress.engines.cuda.kernels import Kernel, KernelModule
from av_compress.engines.cuda.streams import (
    DeviceBuffer,
    Event,
    Graph,
    Stream,
    copy_in,
    copy_out,
    elapsed_ns,
    fill,
)

__all__ = [
    "CudaContext",
    "CudaError",
    "Device",
    "DeviceBuffer",
    "Event",
    "Graph",
    "Kernel",
    "KernelModule",
    "Stream",
    "copy_in",
    "copy_out",
    "elapsed_ns",
    "fill",
    "find_device",
    "list_devices",
]
