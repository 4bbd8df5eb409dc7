# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a parameter file says to a node, for launch files that need to know it before it starts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from av_compress.nodes.topics import listed
from av_compress.validation import validate
from av_compress.yamlfile import load_yaml

_PARAMETERS = "ros__parameters"


def full_name(*parts: str) -> str:
    """Return a node's whole name, `/vehicle/lidar_detector`.

    Args:
        *parts: namespaces, the outermost first, and the node's name; one that begins with a slash
            is whole.

    """
    whole = ""
    for part in parts:
        whole = part if part.startswith("/") else f"{whole.rstrip('/')}/{part}" if part else whole
    return whole.rstrip("/")


def sensor_names(given: str, path: Path, parameter: str, node: str, schema: str) -> list[str]:
    """Return the sensors that an argument names, or else those that a parameter file does.

    Args:
        given: names, separated by commas; empty: those of the file.
        path: of the file.
        parameter: the names' own, such as `merge.lidars`.
        node: whole name, such as `/lidar_detector`.
        schema: that of the node's parameters.

    Returns:
        names; none where neither names any.

    Raises:
        ConfigError: the file is not YAML, or a name cannot be part of a topic's.
        UsageError: the file cannot be read.

    """
    names: Any = listed(given)
    if not names:
        names = _value(load_yaml(path), parameter, node)
        if names is None:
            return []
    held = names
    for key in (*reversed(parameter.split(".")), _PARAMETERS, "/**"):
        held = {key: held}
    validate(held, schema, f"argument {given}" if given else str(path))
    # ROS knows no empty list: an empty name stands for none.
    return [name for name in names if name]


def _value(content: Any, parameter: str, node: str) -> Any:
    """Return what a file gives a parameter of a node; None: nothing. As in rcl the last counts."""
    found = None
    for pattern, parameters in _sections(content, ""):
        if re.fullmatch(pattern, node):
            for name, value in _flat(parameters, ""):
                found = value if name == parameter else found
    return found


def _sections(content: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield patterns of nodes' whole names, and their parameters.

    Namespaces nest, or stand in one key with slashes between. In rcl `*` is any one part of a
    name, and `**` are any, or none.
    """
    if not isinstance(content, dict):
        return
    for key, inner in content.items():
        if key == _PARAMETERS:
            yield place, inner
            continue
        parts = [part for part in str(key).split("/") if part]
        words = {"*": r"(/\w+)", "**": r"(/\w+)*"}
        below = "".join(words.get(part, f"/{re.escape(part)}") for part in parts)
        yield from _sections(inner, place + below)


def _flat(parameters: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield parameters by their whole names: sections nest, or stand in one key with dots."""
    if isinstance(parameters, dict):
        for key, value in parameters.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, parameters
