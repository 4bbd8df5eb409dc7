# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the CUDA driver's refusals mean, and what to do about them."""

from __future__ import annotations

from av_compress.errors import EngineError

# CUresult -> reason. The codes are those of cuda.h.
_LOST = (4, 214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999)
_REASONS: dict[int, str] = {
    2: "out_of_memory",
    34: "no_driver",
    100: "no_device",
    101: "no_device",
    200: "image",
    209: "image",
    218: "image",
    222: "image",
    500: "image",
    701: "launch",
    803: "driver_too_old",
    804: "driver_too_old",
    **dict.fromkeys(range(900, 909), "capture"),
    **dict.fromkeys(_LOST, "context_lost"),
}
CODES = tuple(_REASONS)

_ADVICE = {
    "no_driver": "install NVIDIA's driver, and in a container the NVIDIA container toolkit",
    "no_device": "check nvidia-smi and CUDA_VISIBLE_DEVICES, and in a container --gpus",
    "driver_too_old": "update NVIDIA's driver, or install a PyCUDA built for an older CUDA",
    "image": "compile the kernel or plan for this device's compute capability",
    "launch": "the kernel asks for more threads, registers or memory than the device has",
    "context_lost": (
        "the device's context is lost with all that was on it: restart the process; if it comes "
        "again, run it under compute-sanitizer, and look for Xid lines in dmesg"
    ),
    "capture": "nothing that waits or allocates may happen while a stream is captured",
    "out_of_memory": "close what else uses the device, or use a smaller model, batch or workspace",
}


class CudaError(EngineError):
    """The driver refuses, or is not there.

    Attributes:
        reason: `no_driver`, `no_device`, `driver_too_old`, `out_of_memory`, `image`, `launch`,
            `capture`, `context_lost`, `wrong_thread`, `closed`, `argument` or `other`.
        code: the driver's CUresult, where there is one.

    """

    def __init__(self, reason: str, message: str, code: int | None = None) -> None:
        """Keep `reason` and `code` apart from the text, so that callers can branch on them."""
        advice = _ADVICE.get(reason)
        super().__init__(f"{message}; {advice}" if advice else message)
        self.reason = reason
        self.code = code


def reason_of(code: int | None) -> str:
    """Return the reason that belongs to a driver's code."""
    return "other" if code is None else _REASONS.get(code, "other")
