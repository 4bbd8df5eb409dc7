# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of the benchmarks of calibration: sampling and thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markdown_regions import number, table

Result = Mapping[str, Any]

SAMPLINGS = ("stride", "coverage")


def sampling(figures: Result) -> str:
    """Tabulate agreement by model, pool and count, random choices with their range."""
    rows = []
    for model, pools in figures["models"].items():
        for pool, found in pools.items():
            counts = [key for key in found if key.isdecimal()]
            rows += [
                (model, pool, count, *sampling_cells(found[count]), all_cell(found))
                for count in sorted(counts, key=int)
            ]
    headers = ("model", "pool", "frames", *SAMPLINGS, "random (range)", "all frames")
    return (
        f"Agreement AP50:95 on the val images, in points; random: mean of {figures['seeds']} "
        f"draws.\n\n{table(headers, rows, left=3)}\n\n{sampling_means(figures)}"
    )


def sampling_cells(rows: Result) -> tuple[str, ...]:
    low, mean, high = rows["random"]["agreement_ap"]
    return (
        *(number(rows[name]["agreement_ap"]) for name in SAMPLINGS),
        f"{number(mean)} ({number(low)} to {number(high)})",
    )


def all_cell(found: Result) -> str:
    return number(found["all frames"]["agreement_ap"])


def sampling_means(figures: Result) -> str:
    """Say what each way reaches on average over models, pools and counts."""
    found = [
        rows
        for pools in figures["models"].values()
        for pool in pools.values()
        for count, rows in pool.items()
        if count.isdecimal()
    ]

    def means(key: str, scale: float) -> str:
        values = {name: [rows[name][key] for rows in found] for name in SAMPLINGS}
        values["random"] = [rows["random"][key][1] for rows in found]
        return ", ".join(
            f"{name} {number(scale * sum(each) / len(each))}" for name, each in values.items()
        )

    return (
        f"Mean over all rows: {means('agreement_ap', 1)}. Mean squared error of the raw outputs, "
        f"% of their variance: {means('output_error', 100)}."
    )


def thresholds(figures: Result) -> str:
    """Tabulate agreement and output error by model, share and method."""
    rows = []
    for model, found in figures.items():
        for values in found["shares"].values():
            share = f"{100 * values['int8_mac_share']:.1f} %"
            rows += [
                (model, share, method, *threshold_cells(row))
                for method, row in values["methods"].items()
            ]
            chance = chance_cells(values["chance"])
            rows.append((model, share, "mse, raised by up to 3 %", *chance))
    headers = ("model", "INT8", "thresholds", "agreement AP50", "AP", "output error, %")
    return f"{table(headers, rows, left=3)}\n\n{chosen(figures)}"


def chosen(figures: Result) -> str:
    """Tabulate how many tensors tried other methods, what they took, and what it gained."""
    rows = [
        (
            model,
            ", ".join(f"{method} {count}" for method, count in sorted(found["chosen"].items())),
            f"{sum(found['chosen'].values())} of {found['tensors']}",
            *(number(100 * found["error_alone"][name]) for name in ("mse", "best")),
            f"{found['seconds']:.0f}",
        )
        for model, found in figures.items()
    ]
    headers = ("model", "`best` chose", "tensors", "errors alone, `mse`", "`best`", "seconds")
    return (
        "On how many tensors `best` tried other methods, and what it took; the errors of the raw "
        "outputs with each tensor alone rounded, summed, % of their variance, on the frames "
        f"of the trial; and the time on one core.\n\n{table(headers, rows, left=2)}"
    )


def threshold_cells(row: Result) -> tuple[str, ...]:
    return (
        number(row["agreement_ap50"]),
        number(row["agreement_ap"]),
        number(100 * row["output_error"]),
    )


def chance_cells(chance: Result) -> tuple[str, ...]:
    scales = {"agreement_ap50": 1, "agreement_ap": 1, "output_error": 100}
    return tuple(
        " to ".join(number(scale * value) for value in chance[key])
        for key, scale in scales.items()
    )
