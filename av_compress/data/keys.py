# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the keys of a source are called where people write them, for errors that name them."""

from __future__ import annotations

from collections.abc import Callable

Naming = Callable[[str], str]
"""Path of a key in `schema/source.schema.json`, such as `fields.clock`, to what people call it."""


def in_recipe(key: str) -> str:
    """Return what a key of a source is called in a recipe."""
    return f"source.{key}"
