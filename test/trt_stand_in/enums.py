# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Enumerations as pybind11 makes them: no integers, but with a number."""

from __future__ import annotations

from typing import Any

# What one element takes, in bytes, as the package's own __init__ adds to DataType.
ITEM_SIZES = {"FLOAT": 4, "HALF": 2, "BF16": 2, "INT8": 1, "INT32": 4, "INT64": 8, "BOOL": 1}
ITEM_SIZES |= {"UINT8": 1, "FP8": 1, "INT4": 0.5, "FP4": 0.5, "E8M0": 1}


class _EnumType(type):
    """Makes a member of its number, and lists members."""

    def __call__(cls, value: Any) -> Any:
        number = value.__index__()
        for member in cls.__members__.values():  # type: ignore[attr-defined]
            if int(member) == number:
                return member
        raise ValueError(f"{number} is no {cls.__name__}")

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"members of {cls.__name__} are not to be set")

    def __dir__(cls) -> list[str]:
        return [*cls.__members__, "name", "value", *super().__dir__()]  # type: ignore


def make_enum(name: str, members: dict[str, int], module: str, bases: tuple = ()) -> Any:
    """Return a class with these members, which cannot be compared by size or combined."""
    qualified, short = name, name.rpartition(".")[2]

    def initialise(self: Any, label: str, number: int) -> None:
        object.__setattr__(self, "_label", label)
        object.__setattr__(self, "_number", number)

    def refuse(self: Any, attribute: str, _value: Any) -> None:
        raise AttributeError(f"'{module}.{qualified}' object has no attribute '{attribute}'")

    space: dict[str, Any] = {
        "__slots__": ("_label", "_number"),
        "__module__": module,
        "__qualname__": name,
        "__setattr__": refuse,
        "__int__": lambda self: self._number,
        "__index__": lambda self: self._number,
        "__hash__": lambda self: hash(self._number),
        "__eq__": lambda self, other: type(self) is type(other) and self._number == other._number,
        "__str__": lambda self: f"{short}.{self._label}",
        "__repr__": lambda self: f"<{short}.{self._label}: {self._number}>",
        "__reduce__": lambda self: (getattr, (type(self), self._label)),
        "name": property(lambda self: self._label),
        "value": property(lambda self: self._number),
    }
    if name == "DataType":
        space["itemsize"] = property(lambda self: ITEM_SIZES[self._label])
    made = type.__new__(_EnumType, short, (), space)
    labelled = {}
    for label, number in members.items():
        member = object.__new__(made)
        initialise(member, label, number)
        type.__setattr__(made, label, member)
        labelled[label] = member
    type.__setattr__(made, "__members__", labelled)
    return made
