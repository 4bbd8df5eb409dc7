# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the objects of one module share, and what they are made of."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from trt_stand_in.control import Control
from trt_stand_in.facts import Facts

Launch = Callable[[int, Callable[[], None]], None]


class NotInStandInError(NotImplementedError):
    """The version has this member; the stand-in does not do it."""


class World:
    """One module: its facts, its classes, its card, and how work comes onto a stream."""

    def __init__(self, facts: Facts, launch: Launch) -> None:
        self.facts = facts
        self.launch = launch
        self.control = Control()
        self.module = types.ModuleType(facts.package)
        self.classes: dict[str, Any] = {}
        self.enums: dict[str, Any] = {}

    def enum(self, name: str, member: str) -> Any:
        """Return a member of an enumeration."""
        return getattr(self.enums[name], member)

    def has(self, enum: str, member: str) -> bool:
        return member in self.facts.enums.get(enum, {})

    def says(self, owner: str, member: str) -> bool:
        """Tell whether a class has a member in this version."""
        return member in self.facts.classes.get(owner, {})

    def handle(self, behaviour: Behaviour) -> Any:
        """Return the object that stands for a behaviour: always the same while it lives."""
        known = behaviour.own_handle() if behaviour.own_handle is not None else None
        if known is None:
            owner = self.classes[behaviour.kind]
            known = object.__new__(owner)
            known._stand_in = behaviour
            behaviour.own_handle = weakref.ref(known)
        return known


class Behaviour:
    """What a class does. Its methods and attributes have the API's names.

    Attributes:
        kind: the class's name.
        world: its module.
        logger: who is told of errors; None: nobody.
        error_recorder: who is told as well.

    """

    kind = ""
    is_trampoline = False

    def __init__(self, world: World, logger: Any = None) -> None:
        self.world = world
        self.logger = logger
        self.error_recorder: Any = None
        self.own_handle: weakref.ref | None = None
        live = world.control.live
        live[self.kind] += 1
        weakref.finalize(self, live.subtract, [self.kind]).atexit = False

    def say(self, severity: str, message: str) -> None:
        """Log."""
        if self.logger is not None:
            self.logger.log(getattr(self.world.classes["ILogger"].Severity, severity), message)

    def error(self, message: str, code: str = "INVALID_ARGUMENT") -> None:
        """Log an error, and record it where a recorder is set."""
        self.say("ERROR", message)
        if self.error_recorder is not None:
            self.error_recorder.report_error(self.world.enum("ErrorCodeTRT", code), message)

    def refuse(self, message: str, code: str = "INVALID_ARGUMENT") -> bool:
        """Log an error and return False."""
        self.error(message, code)
        return False


class Trampoline(Behaviour):
    """A class that programs derive from; its object is told, not its behaviour."""

    is_trampoline = True

    def __init__(self, world: World, kind: str) -> None:
        self.kind = kind
        super().__init__(world)


def shape_text(shape: Sequence[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
