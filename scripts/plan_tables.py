# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of what TensorRT makes of models: what it compiles, and what a card takes for it."""

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


def load(figures: Result) -> str:
    """Tabulate what a verified load and a second compilation take."""
    rows = [
        (label, number(figures[f"{key}_s"], 4), number(figures[f"{key}_process_s"], 3))
        for key, label in (("load", "verified load"), ("compile_again", "compiled again"))
    ]
    sizes = " and ".join(
        f"{figures[key] / 2**20:.1f} MiB of {what}"
        for key, what in (("plan_bytes", "plan"), ("model_bytes", "models"))
    )
    headers = ("seconds", "in the process", "whole process")
    return f"{sizes}; medians of {figures['rounds']} runs.\n\n{table(headers, rows)}"


def clouds(figures: Result) -> str:
    """Tabulate what a cloud's way to a model's inputs takes, against others'."""
    took = figures["ms"]
    rows = [
        (name, number(value, 2), number(value / took["ours"], 2)) for name, value in took.items()
    ]
    parts = [
        f"{figures['points']} points, {figures['pillars']} pillars; the process grew by "
        f"{figures['grown_mib']:g} MiB in a thousand clouds.",
        table(("medians", "ms", "ours = 1"), rows),
    ]
    if "merging_ms" in figures:
        merging = [(name, number(value, 2)) for name, value in figures["merging_ms"].items()]
        parts.append(table(("clouds brought together, medians", "ms"), merging))
    return "\n\n".join(parts)


def on_card(figures: Result) -> str:
    """Tabulate what one card takes for bundles; what it refuses is a row, too."""
    card = figures["card"]
    mode = f", power mode {card['power_mode']}" if "power_mode" in card else ""
    copied = ", ".join(
        f"{label} {number(figures['copies'][f'{key}_in_gb_per_s'], 1)} in and "
        f"{number(figures['copies'][f'{key}_out_gb_per_s'], 1)} out"
        for key, label in (("page_locked", "page-locked"), ("other", "other memory"))
    )
    headers = (
        *("bundle", "model", "compile s", "again", "load s", "again"),
        *("p50 ms", "p99", "copy in", "execute", "copy out", "frames/s", "in flight"),
    )
    rows = [
        row
        for bundle, backends in figures["bundles"].items()
        for backend, found in backends.items()
        for row in _timed(bundle, backend, found)
    ]
    head = f"{card['gpu']}, compute capability {card['compute_capability']}{mode}."
    return f"{head} Copies in GB/s: {copied}.\n\n{table(headers, rows, left=2)}"


def _timed(bundle: str, backend: str, found: Result) -> list[tuple[str, ...]]:
    made = tuple(
        number(found[key]) if key in found else ""
        for key in ("compile_s", "compile_again_s", "load_s", "load_again_s")
    )
    if "refused" in found:
        return [(bundle, f"{backend}: {found['refused']}", *made, *[""] * 7)]
    return [(bundle, model["name"], *made, *_latencies(model)) for model in found["models"]]


def _latencies(model: Result) -> tuple[str, ...]:
    total, stages = model["latencies"]["total"], model["latencies"]
    rates = [number(one["frames_per_s"], 0) for one in model["throughput"]]
    return (
        *(number(total[key], 3) for key in ("p50_ms", "p99_ms")),
        *(number(stages[key]["p50_ms"], 3) for key in ("h2d", "execute", "d2h")),
        rates[0],
        rates[1] if len(rates) > 1 else "",
    )
