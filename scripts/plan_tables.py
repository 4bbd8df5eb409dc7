# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of what TensorRT for RTX made of real models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markdown_regions import number, table

Result = Mapping[str, Any]
# One capability stands for all: they differ in seconds alone, or a line says so.
SHOWN = "8.9"


def compiled(figures: Result) -> str:
    """One table for all models."""
    headers = ("model", "form", "seconds", "plan KiB", "kernels", "activations MB", "weights MB")
    rows = [
        (model, form, *_cells(targets[SHOWN]))
        for model, forms in figures.items()
        for form, targets in forms.items()
    ]
    return f"{_headline(figures)}\n\n{table(headers, rows, left=2)}"


def _cells(row: Result) -> tuple[str, ...]:
    if "refused" in row:
        return (f"refused: {row['refused']}", *[""] * 4)
    return (
        number(row["seconds"]),
        str(row["plan_kib"]),
        str(row["kernels"]),
        number(row["activation_mb"]),
        number(row["weights_mb"]),
    )


def _headline(figures: Result) -> str:
    rows = [row for forms in figures.values() for t in forms.values() for row in t.values()]
    built = [row for row in rows if "refused" not in row]
    asked = sum(row["asked_int8"] for row in built)
    lost = sum(len(row["differing"]) for row in built)
    seconds, memory = (max(row[key] for row in built) for key in ("seconds", "peak_mib"))
    tried = {c for forms in figures.values() for targets in forms.values() for c in targets}
    return (
        f"{len(built)} of {len(rows)} compilations went through, for compute capability "
        f"{', '.join(sorted(tried, key=float))}, in at most {seconds:.1f} s and {memory} MiB. Of "
        f"{asked} weighted nodes that were to be INT8 or FP8, {lost} became float. Shown is "
        f"capability {SHOWN}."
    )
