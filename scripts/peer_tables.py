# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of what other quantisers and runtimes reach, and of a whole build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markdown_regions import number, table

SYNTHETIC = "yolov8n_like"

Result = Mapping[str, Any]


def peers(figures: Result, ours: Result) -> str:
    """Show the peers, each beside our own curve of accuracy against the share in INT8."""
    return "\n\n".join(
        peers_of(model, found, ours.get(model, {}).get("curve", ()))
        for model, found in figures["models"].items()
    )


def peers_of(model: str, found: Result, curve: Sequence[Result]) -> str:
    headers = (
        *("peer", "INT8", "as TensorRT takes it", "AP50 lost"),
        *("agreement AP50", "AP", "ours AP50", "AP"),
    )
    rows, failed = [], []
    for peer in found["peers"].values():
        if "failed" in peer:
            failed.append(f"{peer['label']}: {peer['failed']}")
            continue
        mine = at_share(curve, peer["int8_mac_share"])
        rows.append(
            (
                peer["label"],
                f"{100 * peer['int8_mac_share']:.1f} %",
                f"{100 * peer['tensorrt_mac_share']:.1f} %",
                number(peer["ap50_loss"]),
                number(peer["agreement_ap50"]),
                number(peer["agreement_ap"]),
                "" if mine is None else number(mine["agreement_ap50"]),
                "" if mine is None else number(mine["agreement_ap"]),
            )
        )
    failures = "\n".join(f"- {line}" for line in failed)
    return f"### {model}\n\n{table(headers, rows)}" + f"\n\nFailed:\n\n{failures}" * bool(failed)


def at_share(curve: Sequence[Result], share: float) -> Result | None:
    """Return our row with at least a share of INT8, as near to it as there is."""
    # A tenth of a percent is what rounding to whole nodes may cost.
    enough = [row for row in curve if row["int8_mac_share"] >= share - 0.001]
    return min(enough, key=lambda row: row["int8_mac_share"], default=None)


def cpu_peers(figures: Result) -> str:
    intro = f"{figures['threads']} thread, {figures['rounds']} turns of each contestant."
    parts = [cpu_peers_of(model, found) for model, found in figures["models"].items()]
    return "\n\n".join([intro, *parts])


def cpu_peers_of(model: str, found: Result) -> str:
    headers = ("contestant", "median ms", "speed", "AP50", "agreement AP50", "AP")
    rows = []
    for row in found.values():
        label = row["label"]
        if "failed" in row:
            rows.append((f"{label}: {row['failed']}", "", "", "", "", ""))
            continue
        share = row.get("int8_mac_share")
        accuracy = [row.get(key) for key in ("ap50", "agreement_ap50", "agreement_ap")]
        rows.append(
            (
                label if share is None else f"{label} ({100 * share:.0f} % INT8)",
                number(row["median_ms"]),
                f"{row['speed_of_fp32']:.2f} x",
                *("" if value is None else number(value) for value in accuracy),
            )
        )
    return f"### {model}\n\n{table(headers, rows)}"


def build(figures: Result) -> str:
    rows = [
        (
            samples,
            f"{run['seconds']:.0f}",
            str(run["peak_mib"]),
            "built" if run["exit_code"] == 0 else run["said"],
        )
        for samples, run in figures["runs"].items()
    ]
    size, forms = figures["size"], " and ".join(f"`{form}`" for form in figures["emitters"])
    return (
        f"{figures['million_parameters']:.1f} million parameters, {size}x{size}, {forms} form, at "
        f"most {figures['evaluations']} evaluations.\n\n"
        + table(("samples", "seconds", "peak MiB", "outcome"), rows)
    )


def best_of_ours(found: Result) -> float:
    """Return the speed of our fastest form, FP32 = 1."""
    return max(row.get("speed_of_fp32", 0.0) for name, row in found.items() if "ours" in name)


def cpu_speed(figures: Result) -> str:
    return f"{best_of_ours(figures['models'][SYNTHETIC]):.2f} x"


def slowest_detector(figures: Result) -> str:
    models = {name: found for name, found in figures["models"].items() if name != SYNTHETIC}
    speed, name = min((best_of_ours(found), name) for name, found in models.items())
    return f"{speed:.2f} x ({name})"


def build_memory(figures: Result) -> str:
    return f"{figures['runs'][str(max(map(int, figures['runs'])))]['peak_mib']} MiB"
