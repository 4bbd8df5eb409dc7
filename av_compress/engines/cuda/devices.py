# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which GPUs there are, and choosing one."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from av_compress.engines.cuda.driver import Driver, load_driver, version_text
from av_compress.engines.cuda.errors import CudaError
from av_compress.errors import UsageError


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        index: its place among the visible ones.
        uuid: as nvidia-smi writes it, `GPU-...`; it stays when places change.
        name: the card's name.
        capability: compute capability, such as `8.9`.
        total_bytes: its memory.
        driver: the CUDA version that the driver knows, such as `13.0`.

    """

    index: int
    uuid: str
    name: str
    capability: str
    total_bytes: int
    driver: str


def list_devices() -> tuple[Device, ...]:
    """Return the visible GPUs.

    Raises:
        MissingExtraError: PyCUDA is not installed.
        CudaError: there is no driver, or it is too old, or there is no GPU.

    """
    return devices_of(load_driver())


def find_device(selector: int | str = 0) -> Device:
    """Return the GPU that is meant.

    Args:
        selector: its index, also as text, or its UUID, of which the first letters are enough
            where no other GPU's begins so (as CUDA_VISIBLE_DEVICES has it).

    Raises:
        UsageError: no GPU or more than one is meant.
        MissingExtraError, CudaError: see `list_devices`.

    """
    return select(list_devices(), selector)


def devices_of(driver: Driver) -> tuple[Device, ...]:
    """Return the GPUs of a driver that is loaded; see `list_devices`."""
    with driver.checked():
        count = driver.cuda.Device.count()
    if not count:
        raise CudaError("no_device", "there is no GPU")
    return tuple(_describe(driver, index) for index in range(count))


def select(devices: tuple[Device, ...], selector: int | str) -> Device:
    """Return the one of `devices` that `selector` means; see `find_device`."""
    text = str(selector).strip()
    known = ", ".join(f"{d.index}: {d.name} ({d.uuid})" for d in devices)
    if isinstance(selector, int) or text.isdecimal():
        found = [device for device in devices if device.index == int(text)]
    elif text.lower().startswith(("gpu-", "mig-")) and len(text) > len("gpu-"):
        found = [device for device in devices if device.uuid.lower().startswith(text.lower())]
    else:
        raise UsageError(
            f"GPU {selector!r} is neither an index nor the beginning of a UUID (GPU-...); "
            f"there are {known}"
        )
    if not found:
        raise UsageError(f"there is no GPU {selector!r}; there are {known}")
    if len(found) > 1:
        raise UsageError(f"more than one GPU's UUID begins with {selector!r}; there are {known}")
    return found[0]


def _describe(driver: Driver, index: int) -> Device:
    uuid = ctypes.create_string_buffer(16)
    # The second form knows parts of a card as well; older drivers have only the first.
    newer = hasattr(driver.library, "cuDeviceGetUuid_v2")
    driver.call("cuDeviceGetUuid_v2" if newer else "cuDeviceGetUuid", uuid, index)
    digits = uuid.raw.hex()
    parts = [digits[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))]
    with driver.checked():
        device = driver.cuda.Device(index)
        return Device(
            index=index,
            uuid="GPU-" + "-".join(parts),
            name=device.name(),
            capability=".".join(map(str, device.compute_capability())),
            total_bytes=device.total_memory(),
            driver=version_text(driver),
        )
