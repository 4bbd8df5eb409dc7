# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""IHostMemory: a buffer, and nothing else that bytes are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trt_stand_in.facts import Member
from trt_stand_in.world import World

_ALLOWED = ("nbytes", "dtype")


class _Type(type):
    """Its classes show only what the API has."""

    def __call__(cls, *_args: Any) -> Any:
        raise TypeError(f"{cls.__module__}.{cls.__name__}: No constructor defined!")

    def __dir__(cls) -> list[str]:
        return [*cls._shown, *dir(object)]  # type: ignore[attr-defined]

    def __getattribute__(cls, name: str) -> Any:
        if not name.startswith("_") and name not in type.__getattribute__(cls, "_shown"):
            raise AttributeError(f"type object 'IHostMemory' has no attribute '{name}'")
        return type.__getattribute__(cls, name)


def _refuse(self: Any, *_args: Any) -> Any:
    raise TypeError("IHostMemory is a buffer: bytes(it) or memoryview(it)")


class HostBytes:
    """Makes the class. Derived from bytes because Python 3.11 knows no other way to a buffer."""

    @staticmethod
    def of(world: World, members: Mapping[str, Member]) -> Any:
        """Return a world's IHostMemory."""

        def get(self: Any, name: str) -> Any:
            if not name.startswith("_") and name not in _ALLOWED:
                raise AttributeError(f"'IHostMemory' object has no attribute '{name}'")
            return bytes.__getattribute__(self, name)

        def put(self: Any, name: str, value: Any) -> None:
            raise AttributeError(f"'IHostMemory' object has no attribute '{name}'")

        space = {
            "__module__": world.facts.package,
            "_shown": tuple(members),
            "nbytes": property(lambda self: memoryview(self).nbytes),
            "dtype": property(lambda self: world.enum("DataType", "INT8")),
            "__getattribute__": get,
            "__setattr__": put,
            "__eq__": lambda self, other: self is other,
            "__hash__": id,
            "__dir__": lambda self: dir(type(self)),
            "__repr__": lambda self: f"<{world.facts.package}.IHostMemory object>",
        }
        for name in ("__len__", "__getitem__", "__iter__", "__add__", "__contains__", "__mul__"):
            space[name] = _refuse
        return _Type("IHostMemory", (bytes,), space)


def host_memory(world: World, data: bytes) -> Any:
    """Return memory that holds these bytes."""
    return bytes.__new__(world.classes["IHostMemory"], data)
