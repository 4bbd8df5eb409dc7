# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which GPUs there are, and choosing one."""

import pytest

from av_compress.engines.cuda import CudaContext, CudaError, Device, find_device, list_devices
from av_compress.errors import UsageError

FIRST = "GPU-a0000000-5354-5542-0000-000000000000"
SECOND = "GPU-a1000000-5354-5542-0000-000000000001"


def test_a_device_is_described(stub):
    stub.set_memory(8 << 30)
    stub.set_capability(0, 7, 2)
    stub.set_driver_version(13020)
    expected = Device(0, FIRST, "Stub 0", "7.2", 8 << 30, "13.2")
    assert list_devices() == (expected,)


@pytest.mark.parametrize(
    ("selector", "index"),
    [
        (0, 0),
        (1, 1),
        ("1", 1),
        (FIRST, 0),
        (SECOND, 1),
        ("GPU-a1", 1),
        ("gpu-A1000000", 1),
        (" GPU-a1 ", 1),
    ],
)
def test_choosing(stub, selector, index):
    stub.set_devices(2)
    assert find_device(selector).index == index
    with CudaContext.open(selector) as context:
        assert context.device == list_devices()[index]


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        (2, "no GPU 2; there are 0: Stub 0"),
        (-1, "no GPU -1"),
        ("GPU-b", "no GPU 'GPU-b'"),
        ("GPU-a", "more than one GPU's UUID begins with 'GPU-a'"),
        ("GPU-", "neither an index nor the beginning of a UUID"),
        ("Stub 0", "neither an index"),
        ("", "neither an index"),
    ],
)
def test_what_means_no_device_or_several(stub, selector, words):
    stub.set_devices(2)
    with pytest.raises(UsageError, match=words) as caught:
        CudaContext.open(selector)
    assert FIRST in str(caught.value)


def test_no_device(stub):
    stub.set_devices(0)
    with pytest.raises(CudaError, match=r"no CUDA-capable device.*nvidia-smi") as caught:
        list_devices()
    assert caught.value.reason == "no_device"


@pytest.mark.parametrize(("version", "fits"), [(13000, True), (14010, True), (12090, False)])
def test_a_driver_of_an_older_major_version_is_too_old(stub, version, fits):
    stub.set_driver_version(version)
    if fits:
        assert list_devices()
        return
    with pytest.raises(
        CudaError, match=r"knows CUDA 12\.9, and PyCUDA was built for 13"
    ) as caught:
        list_devices()
    assert caught.value.reason == "driver_too_old"


def test_an_older_driver_gives_uuids_too(stub, monkeypatch):
    import ctypes

    from av_compress.engines.cuda import devices
    from av_compress.engines.cuda.driver import Driver, load_driver

    driver = load_driver()

    class Older:
        def __getattr__(self, name: str):
            if name == "cuDeviceGetUuid_v2":
                raise AttributeError(name)
            return getattr(
                driver.library, {"cuDeviceGetUuid": "cuDeviceGetUuid_v2"}.get(name, name)
            )

    older = Driver(driver.cuda, Older(), driver.texts)
    assert devices.devices_of(older) == list_devices()
    assert isinstance(driver.library, ctypes.CDLL)
