# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Whether there is a real card, and kernels for its tests, as text that any driver compiles."""

from __future__ import annotations

import ctypes

# The driver reads a text to its null byte.

# One thread waits for so many of its clock's cycles, and then writes how many it were.
SPIN = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry spin(.param .u64 out, .param .u64 cycles)
{
    .reg .pred %p<2>;
    .reg .b64 %rd<7>;
    ld.param.u64 %rd1, [cycles];
    mov.u64 %rd2, %clock64;
AGAIN:
    mov.u64 %rd3, %clock64;
    sub.s64 %rd4, %rd3, %rd2;
    setp.lt.u64 %p1, %rd4, %rd1;
    @%p1 bra AGAIN;
    ld.param.u64 %rd5, [out];
    cvta.to.global.u64 %rd6, %rd5;
    st.global.u64 [%rd6], %rd4;
    ret;
}
\0"""

# One thread adds to a number.
ADD = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry add(.param .u64 number, .param .u32 amount)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [number];
    cvta.to.global.u64 %rd2, %rd1;
    ld.param.u32 %r1, [amount];
    ld.global.u32 %r2, [%rd2];
    add.u32 %r3, %r2, %r1;
    st.global.u32 [%rd2], %r3;
    ret;
}
\0"""

# About a fifth of a second on cards of today: far more than any copy of these tests takes.
LONG = 300_000_000


def why_no_card() -> str:
    """Return why nothing can run on a card; empty where it can."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA GPU: there is no driver here"
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "no NVIDIA GPU: the driver finds none"
    return ""
