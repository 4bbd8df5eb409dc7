# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Progress bars for work that may take over two seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar on stderr, shown on a terminal once the work has lasted two seconds.

    Args:
        items: what to iterate over.
        label: what is being done, e.g. `calibrate`.
        total: number of items where `items` has no length.

    """
    return iter(
        tqdm(items, desc=label, total=total, delay=2.0, file=sys.stderr, disable=None, leave=False)
    )
