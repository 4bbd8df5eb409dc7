# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Builds a module's classes from its facts; what they do is in the behaviours."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from trt_stand_in.arguments import MismatchError, bind, convert
from trt_stand_in.enums import make_enum
from trt_stand_in.facts import SEVERITIES, Parameter, Property, Signature
from trt_stand_in.memory import HostBytes
from trt_stand_in.values import VALUES
from trt_stand_in.world import Behaviour, NotInStandInError, Trampoline, World

Make = Callable[..., Behaviour]


class _ClassType(type):
    """Refuses what has no constructor, and what a derived class did not initialise."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if not cls._can_be_made:  # type: ignore[attr-defined]
            raise TypeError(f"{cls.__module__}.{cls.__name__}: No constructor defined!")
        made = super().__call__(*args, **kwargs)
        if not hasattr(made, "_stand_in"):
            raise TypeError(
                f"{cls.__module__}.{cls.__name__}.__init__() must be called when overriding "
                "__init__"
            )
        return made


def build_classes(world: World, behaviours: Mapping[str, Make]) -> None:
    """Put enumerations and classes of the facts into the module."""
    facts = world.facts
    for name, members in facts.enums.items():
        world.enums[name] = make_enum(name, members, facts.package)
        setattr(world.module, name, world.enums[name])
    for name in sorted(facts.classes, key=lambda one: _depth(facts.bases, one)):
        world.classes[name] = _build_class(world, name, behaviours)
        setattr(world.module, name, world.classes[name])


def _depth(bases: Mapping[str, str], name: str) -> int:
    return 1 + _depth(bases, bases[name]) if name in bases else 0


def _build_class(world: World, name: str, behaviours: Mapping[str, Make]) -> Any:
    members = world.facts.classes[name]
    if name in VALUES:
        return VALUES[name](world, members)
    if name == "IHostMemory":
        return HostBytes.of(world, members)
    base = world.facts.bases.get(name)
    space: dict[str, Any] = {
        "__slots__": () if base else ("__weakref__", "_stand_in"),
        "__module__": world.facts.package,
        "_can_be_made": "__init__" in members,
    }
    for member, what in members.items():
        if member == "__init__":
            space[member] = _constructor(world, name, what, behaviours.get(name))
        elif isinstance(what, Property):
            space[member] = _property(world, name, member, what)
        else:
            space[member] = _method(world, name, member, what)
    if name == "ILogger":
        severity = make_enum("ILogger.Severity", _numbered(SEVERITIES), world.facts.package)
        space |= {"Severity": severity, **severity.__members__}
    return _ClassType(name, (world.classes[base],) if base else (), space)


def _numbered(names: tuple[str, ...]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _constructor(world: World, name: str, overloads: Any, make: Make | None) -> Any:
    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        _, values = bind(world, "__init__", overloads, args, kwargs)
        behaviour = Trampoline(world, name) if make is None else make(world, *values)
        behaviour.own_handle = weakref.ref(self)
        self._stand_in = behaviour

    return initialise


def _behaviour(obj: Any, name: str) -> Behaviour:
    behaviour = getattr(obj, "_stand_in", None)
    if behaviour is None:
        raise TypeError(f"{name}.__init__() was not called")
    return behaviour


def _method(world: World, owner: str, member: str, overloads: Any) -> Any:
    label = f"{owner}.{member}"

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        signature, values = bind(world, member, overloads, args, kwargs)
        behaviour = _behaviour(self, owner)
        world.control.calls[label] += 1
        if label in world.control.failures:
            behaviour.error(world.control.failures[label], "INTERNAL_ERROR")
            return False if signature.returns == "bool" else None
        if behaviour.is_trampoline:
            raise RuntimeError(f'Tried to call pure virtual function "{owner}::{member}"')
        act = getattr(behaviour, member, None)
        if act is None:
            raise NotInStandInError(f"{label}: the stand-in does not do this")
        return present(world, signature.returns, act(*values))

    call.__name__, call.__qualname__ = member, label
    if not overloads[0].static:
        return call

    def call_static(*args: Any, **kwargs: Any) -> Any:
        bind(world, member, overloads, args, kwargs)
        raise NotInStandInError(f"{label}: the stand-in does not do this")

    return staticmethod(call_static)


def _property(world: World, owner: str, member: str, what: Property) -> property:
    def get(self: Any) -> Any:
        behaviour = _behaviour(self, owner)
        if not hasattr(type(behaviour), member) and member not in vars(behaviour):
            raise NotInStandInError(f"{owner}.{member}: the stand-in does not have this")
        return present(world, what.kind, getattr(behaviour, member))

    def put(self: Any, value: Any) -> None:
        behaviour = _behaviour(self, owner)
        parameter = Parameter("arg1", what.kind, _null(world, what.kind))
        try:
            converted = convert(world, parameter, value)
        except MismatchError as error:
            raise TypeError(
                f"{owner}.{member}: incompatible arguments: {value!r} is no {what.kind}"
            ) from error
        if not hasattr(type(behaviour), member) and member not in vars(behaviour):
            raise NotInStandInError(f"{owner}.{member}: the stand-in does not have this")
        setattr(behaviour, member, converted)

    return property(get if what.readable else None, put if what.writable else None)


def _null(world: World, kind: str) -> str | None:
    """Objects can be taken back by None; numbers, names and members cannot."""
    return "None" if kind in world.classes or kind in {"list[str]", "str"} else None


def present(world: World, kind: str, value: Any) -> Any:
    """Return what Python gets: objects for behaviours, Dims for shapes."""
    if isinstance(value, Behaviour):
        return world.handle(value)
    if kind == "Dims" and isinstance(value, tuple):
        return world.classes["Dims"](value)
    if kind == "list[Dims]":
        return [world.classes["Dims"](one) for one in value]
    if kind.startswith("list[") and isinstance(value, list):
        return [present(world, kind[5:-1], one) for one in value]
    return value


def build_functions(world: World, functions: Mapping[str, Callable[..., Any]]) -> None:
    """Put the module's functions, and the names of its types, into it."""
    for name, signature in world.facts.functions.items():
        setattr(world.module, name, _function(world, name, signature, functions[name]))
    for alias, member in world.facts.aliases.items():
        setattr(world.module, alias, world.enum("DataType", member))
    world.module.__version__ = world.facts.version  # type: ignore[attr-defined]


def _function(world: World, name: str, signature: Signature, act: Callable[..., Any]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        _, values = bind(world, name, [signature], args, kwargs)
        return present(world, signature.returns, act(world, *values))

    call.__name__ = name
    return call
