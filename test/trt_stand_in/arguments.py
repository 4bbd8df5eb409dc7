# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Holds arguments to a signature, as pybind11 does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trt_stand_in.facts import Parameter, Signature
from trt_stand_in.world import World

# Parameters that are sizes and pointers in C++.
_UNSIGNED = {"pool_size", "memory", "size", "stream_handle", "stream", "alignment"}
_NULLABLE = {"IGpuAllocator", "IErrorRecorder", "IProgressMonitor", "IProfiler", "IDebugListener"}
_NULLABLE |= {"IOutputAllocator", "IInt8Calibrator", "IAlgorithmSelector", "IRuntimeConfig"}


class MismatchError(Exception):
    """An argument is not of the parameter's type."""


def bind(
    world: World, name: str, overloads: Sequence[Signature], args: tuple, kwargs: dict[str, Any]
) -> tuple[Signature, list[Any]]:
    """Return the overload that takes the arguments, and them in its order and types.

    Raises:
        TypeError: none takes them.

    """
    for signature in overloads:
        if signature.open:
            return signature, [*args, *kwargs.values()]
        try:
            return signature, _bind_one(world, signature, args, kwargs)
        except MismatchError:
            continue
    forms = "\n".join(f"    {i}. {s.text}" for i, s in enumerate(overloads, 1))
    given = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
    raise TypeError(
        f"{name}(): incompatible function arguments. The following argument types are "
        f"supported:\n{forms}\n\nInvoked with: {given}"
    )


def _bind_one(world: World, signature: Signature, args: tuple, kwargs: dict) -> list[Any]:
    names = [one.name for one in signature.parameters]
    if len(args) > len(names) or not set(kwargs) <= set(names[len(args) :]):
        raise MismatchError
    given = dict(zip(names, args)) | kwargs
    values = []
    for parameter in signature.parameters:
        if parameter.name in given:
            values.append(convert(world, parameter, given[parameter.name]))
        elif parameter.default is not None:
            values.append(default_value(world, parameter))
        else:
            raise MismatchError
    return values


def default_value(world: World, parameter: Parameter) -> Any:
    text = parameter.default or ""
    owner, _, member = text.rpartition(".")
    if owner in {"ILogger.Severity", "Severity"}:
        return getattr(world.classes["ILogger"].Severity, member)
    if owner in world.enums:
        return world.enum(owner, member)
    return {"None": None, "''": "", "True": True, "False": False}.get(text, _number(text))


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text


def convert(world: World, parameter: Parameter, value: Any) -> Any:
    """Return what the C++ side gets.

    Raises:
        MismatchError: the value is not of the type.

    """
    kind = parameter.kind
    if value is None:
        if parameter.default == "None" or kind in _NULLABLE or kind in {"object", "capsule"}:
            return None
        raise MismatchError
    if kind.startswith("list["):
        return _sequence(world, Parameter(parameter.name, kind[5:-1], None), value)
    simple = _SIMPLE.get(kind)
    if simple is not None:
        return _checked(parameter, simple(value))
    if kind == "Dims":
        return dims(world, value)
    return _of_class(world, kind, value)


def _of_class(world: World, kind: str, value: Any) -> Any:
    if kind == "Weights" and isinstance(value, np.ndarray):
        return world.classes["Weights"](value)._stand_in
    known = {"ILogger.Severity": world.classes["ILogger"].Severity}
    owner = known.get(kind) or world.enums.get(kind) or world.classes.get(kind)
    if owner is None:
        return value
    if not isinstance(value, owner):
        raise MismatchError
    behaviour = getattr(value, "_stand_in", None)
    return value if behaviour is None or behaviour.is_trampoline else behaviour


def dims(world: World, value: Any) -> tuple[int, ...]:
    if isinstance(value, world.classes["Dims"]):
        return tuple(value)
    if not isinstance(value, (list, tuple)):
        raise MismatchError
    return tuple(_integer(one) for one in value)


def _sequence(world: World, inner: Parameter, value: Any) -> list[Any]:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__getitem__"):
        raise MismatchError
    return [convert(world, inner, one) for one in value]


def _checked(parameter: Parameter, value: Any) -> Any:
    if parameter.name in _UNSIGNED and isinstance(value, int) and not 0 <= value < 2**64:
        raise MismatchError
    if parameter.kind == "int" and not -(2**63) <= value < 2**64:
        raise MismatchError
    return value


def _integer(value: Any) -> int:
    if isinstance(value, float) or not hasattr(value, "__index__"):
        raise MismatchError
    return int(value.__index__())


def _float(value: Any) -> float:
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise MismatchError
    return float(value)


def _instance(*kinds: type) -> Any:
    def check(value: Any) -> Any:
        if not isinstance(value, kinds):
            raise MismatchError
        return value

    return check


def _buffer(value: Any) -> memoryview:
    try:
        return memoryview(value).cast("B")
    except TypeError as error:
        raise MismatchError from error


_SIMPLE = {
    "int": _integer,
    "float": _float,
    "str": _instance(str),
    "bool": _instance(bool, np.bool_),
    "buffer": _buffer,
    "tuple": _instance(tuple),
    "list": _instance(list),
    "ndarray": _instance(np.ndarray),
    "capsule": lambda value: value,
    "object": lambda value: value,
}
