# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How numbers are written, on the terminal and on pages alike."""

from __future__ import annotations

import math

# Stands where nothing was measured.
NONE = "–"
_KIB = 1024


def fixed(value: float | None, digits: int = 2) -> str:
    """Format with a fixed number of decimals: `46.40`."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:.{digits}f}"
    # A rounded-off negative number is no negative zero.
    return text.removeprefix("-") if float(text) == 0 else text


def signed(value: float | None, digits: int = 2) -> str:
    """Format with its sign, zero without: `−0.31`, `+1.20`, `0.00`."""
    text = fixed(value, digits)
    if value is None or text == NONE or float(text) == 0:
        return text
    return f"+{text}" if value > 0 else f"−{text.removeprefix('-')}"


def general(value: float, digits: int = 4) -> str:
    """Format to significant digits, whatever the magnitude: `−5.803`, `1.2e−05`."""
    return f"{value:.{digits}g}".replace("-", "−")


def points(share: float | None) -> str:
    """Format an average precision in 0..1 as points: `46.40`."""
    return fixed(None if share is None else 100.0 * share)


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share in 0..1: `97.1 %`."""
    text = fixed(None if share is None else 100.0 * share, digits)
    return text if text == NONE else f"{text} %"


def milliseconds(value: float | None) -> str:
    """Format a duration in milliseconds to three significant digits: `5.13`, `34.2`, `120`."""
    if value is None or not math.isfinite(value):
        return NONE
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return fixed(value, digits)


def size(count: int) -> str:
    """Format a number of bytes: `912 KiB`, `3.72 MiB`."""
    if count < _KIB * _KIB:
        return f"{count / _KIB:.0f} KiB"
    return f"{count / _KIB / _KIB:.2f} MiB"


def amount(count: int | float) -> str:
    """Format a large number by its order: `934`, `12.3 k`, `1.42 M`, `8.70 G`."""
    value = float(count)
    for unit in ("", " k", " M"):
        if abs(value) < 999.5:
            return f"{value:.0f}" if not unit else f"{value:.3g}{unit}"
        value /= 1000.0
    return f"{value:.3g} G"


def plural(count: int, word: str) -> str:
    """Count things: `1 frame`, `53 frames`."""
    ending = ("es" if word.endswith(("s", "x", "ch")) else "s") if count != 1 else ""
    return f"{count:,} {word}{ending}"
