# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A strict stand-in for TensorRT's Python packages: surface, building and running.

It has exactly the classes, members, enumerations and signatures of a version, and raises on
anything else. Networks run in ONNX Runtime over host memory that plays the device's. Nothing
that it does says anything about a GPU: no figure out of it is a measurement.
"""

from __future__ import annotations

import types
from collections.abc import Callable

from trt_stand_in.behaviours import BEHAVIOURS, FUNCTIONS
from trt_stand_in.control import Card, Control
from trt_stand_in.facts import VERSIONS, load_facts
from trt_stand_in.surface import build_classes, build_functions
from trt_stand_in.world import Launch, NotInStandInError, World

__all__ = ["VERSIONS", "Card", "Control", "Launch", "NotInStandInError", "make_module"]


def run_at_once(_stream: int, work: Callable[[], None]) -> None:
    """Do the work now, whatever the stream."""
    work()


def make_module(version: str, launch: Launch | None = None) -> tuple[types.ModuleType, Control]:
    """Return a module that stands in for a version's package, and what controls it.

    Args:
        version: one of VERSIONS.
        launch: puts work onto a stream, given by its handle; None: the work is done at once.

    """
    world = World(load_facts(version), launch or run_at_once)
    build_classes(world, BEHAVIOURS)
    build_functions(world, FUNCTIONS)
    return world.module, world.control
