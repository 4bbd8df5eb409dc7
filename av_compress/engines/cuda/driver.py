# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""PyCUDA, loaded when it is needed; this is its only importer.

What PyCUDA does not have (UUIDs, captured graphs) is called in the driver's library itself, which
is the one that PyCUDA has loaded.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from av_compress.engines.cuda.errors import CODES, CudaError, reason_of
from av_compress.errors import MissingExtraError

LIBRARY = "libcuda.so.1"
PURPOSE = "running on a GPU"


@dataclass(frozen=True)
class Driver:
    """The driver: PyCUDA's module for it, and its library.

    Attributes:
        cuda: the module `pycuda.driver`.
        library: what PyCUDA lacks is called here.
        texts: the driver's words for an error -> its code; PyCUDA gives only the words.

    """

    cuda: Any
    library: ctypes.CDLL
    texts: dict[str, int]

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the library.

        Raises:
            CudaError: it fails, or this driver does not have it.

        """
        found = getattr(self.library, function, None)
        if found is None:
            raise CudaError("driver_too_old", f"the driver {version_text(self)} has no {function}")
        code = found(*arguments)
        if code:
            raise CudaError(
                reason_of(code), f"{function} failed: {_text(self.library, code)}", code
            )

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Turn PyCUDA's errors into ours.

        Raises:
            CudaError: PyCUDA refused.

        """
        try:
            yield
        except self.cuda.Error as error:
            raise self.explain(error) from error

    def explain(self, error: Exception) -> CudaError:
        """Return what an error of PyCUDA means."""
        text = str(error)
        words = text.partition(" failed: ")[2]
        known = sorted((t for t in self.texts if words.startswith(t)), key=len)
        code = self.texts[known[-1]] if known else None
        return CudaError(reason_of(code), text.removesuffix(" - "), code)


def load_driver() -> Driver:
    """Load PyCUDA and initialise the driver.

    Raises:
        MissingExtraError: PyCUDA is not installed.
        CudaError: there is no driver, none that PyCUDA can use, or no device.

    """
    try:
        importlib.import_module("pycuda")
    except ModuleNotFoundError as error:
        raise MissingExtraError("pycuda", "cuda", PURPOSE) from error
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise CudaError("no_driver", f"there is no {LIBRARY} ({error})") from error
    try:
        cuda = importlib.import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "cuda", PURPOSE) from error
    except ImportError as error:
        raise _unusable(library, error) from error
    driver = Driver(cuda, library, {_text(library, code): code for code in CODES})
    with driver.checked():
        cuda.init()
    _check_version(driver)
    return driver


def version_text(driver: Driver) -> str:
    """Return the CUDA version that the driver knows, such as `13.0`."""
    return _version(_driver_version(driver.library))


def _driver_version(library: ctypes.CDLL) -> int:
    version = ctypes.c_int()
    return 0 if library.cuDriverGetVersion(ctypes.byref(version)) else version.value


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _text(library: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorString(code, ctypes.byref(text))
    return (text.value or b"unknown error").decode()


def _unusable(library: ctypes.CDLL, error: ImportError) -> CudaError:
    """Explain a PyCUDA that does not load: it names functions that the driver does not have."""
    if "undefined symbol" not in str(error):
        return CudaError("other", f"the Python module 'pycuda.driver' does not load: {error}")
    missing = str(error).rpartition("undefined symbol: ")[2]
    known = _version(_driver_version(library))
    return CudaError(
        "driver_too_old", f"the driver knows CUDA {known}, and PyCUDA needs its {missing}"
    )


def _check_version(driver: Driver) -> None:
    """Within a major version of CUDA, any driver serves; an older one does not."""
    known, built = _driver_version(driver.library), driver.cuda.get_version()
    if known // 1000 < built[0]:
        raise CudaError(
            "driver_too_old",
            f"the driver knows CUDA {_version(known)}, and PyCUDA was built for "
            f"{built[0]}.{built[1]}",
        )
