# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Dims, Permutation and Weights: values that programs make themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trt_stand_in.arguments import bind
from trt_stand_in.facts import Member
from trt_stand_in.world import Behaviour, World

_DTYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32}
_DTYPES |= {"INT64": np.int64, "BOOL": np.bool_, "UINT8": np.uint8}


def _numbers(values: list[Any]) -> list[int]:
    if len(values) == 1 and isinstance(values[0], list):
        return values[0]
    return [int(value) for value in values]


def _make_vector(name: str) -> Callable[[World, Mapping[str, Member]], Any]:
    def build(world: World, members: Mapping[str, Member]) -> Any:
        length = {"Dims2": 2, "DimsHW": 2, "Dims3": 3, "Dims4": 4}.get(name)

        def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
            _, values = bind(world, "__init__", members["__init__"], args, kwargs)
            self._numbers = _numbers(values) if values else [0] * (length or 0)
            if len(self._numbers) > 8 or (length and len(self._numbers) != length):
                raise ValueError(f"{name} does not have {len(self._numbers)} numbers")

        base = world.facts.bases.get(name)
        space: dict[str, Any] = {
            "__slots__": () if base else ("__weakref__", "_numbers"),
            "__module__": world.facts.package,
            "__init__": initialise,
            "__len__": lambda self: len(self._numbers),
            "__getitem__": _get,
            "__setitem__": _put,
            "__eq__": _equal,
            "__hash__": None,
            "__repr__": lambda self: repr(tuple(self._numbers)),
        }
        space |= {"MAX_DIMS": 8} if "MAX_DIMS" in members else {}
        space |= {
            letter: _coordinate(axis) for axis, letter in enumerate("hw") if letter in members
        }
        return type(name, (world.classes[base],) if base else (), space)

    return build


def _equal(self: Any, other: Any) -> bool:
    # The real ones are compared with lists and tuples alone: not with each other.
    if not isinstance(other, (list, tuple)):
        raise TypeError("__eq__(): Dims are compared with a list or a tuple")
    return list(self) == list(other)


def _get(self: Any, index: Any) -> Any:
    picked = self._numbers[index]
    return tuple(picked) if isinstance(index, slice) else picked


def _put(self: Any, index: Any, value: int) -> None:
    self._numbers[index] = value


def _coordinate(axis: int) -> property:
    def put(self: Any, value: int) -> None:
        self._numbers[axis] = value

    return property(lambda self: self._numbers[axis], put)


NAMES = ("Dims", "Dims2", "Dims3", "Dims4", "DimsHW", "Permutation")
VALUES = {name: _make_vector(name) for name in NAMES}


class Weights(Behaviour):
    """Weights: an array, which is not copied."""

    kind = "Weights"

    def __init__(self, world: World, first: Any, pointer: int = 0, count: int = 0) -> None:
        super().__init__(world)
        array = isinstance(first, np.ndarray)
        self.array = first if array else np.empty(count, _DTYPES.get(first.name, np.uint8))
        names = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
        name = names.get(self.array.dtype, "FLOAT")
        self.dtype = world.enum("DataType", name) if array else first

    @property
    def size(self) -> int:
        return self.array.size

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def numpy(self) -> np.ndarray:
        return self.array
