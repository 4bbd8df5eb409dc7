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


def chosen(figures: Result) -> str:
    """One table for all detectors, the cheapest variant of each first."""
    headers = (
        *("model", "precision rules", "variant", "kernels", "MB moved", "nodes in INT8"),
        *("AP50 lost", "agreement AP"),
    )
    rows = [
        (model, rules, *_variant(name, row, name == found["chosen"]))
        for model, sets in figures.items()
        for rules, found in sets.items()
        for name, row in sorted(found["variants"].items(), key=lambda item: _moved(item[1]))
    ]
    return f"{_choices(figures)}\n\n{table(headers, rows, left=3)}"


def _moved(row: Result) -> float:
    return float(row.get("moved_mb", float("inf")))


def _variant(name: str, row: Result, is_chosen: bool) -> tuple[str, ...]:
    shown = f"**{name}**" if is_chosen else name
    if "fault" in row:
        return (f"{shown}: {row['fault']}", *[""] * 5)
    return (
        shown,
        str(row["kernels"]),
        number(row["moved_mb"]),
        str(row["int8_nodes"]),
        number(row["ap50_loss"]),
        number(row["agreement_ap"]),
    )


def _choices(figures: Result) -> str:
    """Say of every detector what was chosen, against INT8 throughout and FP16."""
    said = []
    for model, sets in figures.items():
        best = min(sets.values(), key=lambda found: _moved(found["variants"][found["chosen"]]))
        rows, name = best["variants"], best["chosen"]
        moved = {kind: number(_moved(rows[kind])) for kind in (name, "fp16", "int8")}
        said.append(
            f"{model}: {name}, {moved[name]} MB a frame (FP16 {moved['fp16']}, INT8 with a scale "
            f"for each channel {moved['int8']}), AP50 lost {number(rows[name]['ap50_loss'])}"
        )
    seconds = max(one["seconds_choosing"] for sets in figures.values() for one in sets.values())
    return f"{'; '.join(said)}. Compiling and choosing took at most {seconds:.0f} s."


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
