#!/usr/bin/env python3
# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Write the figures of benchmarks/results into README.md and docs/benchmarks.md.

    python scripts/render_benchmarks.py [--check]

Figures are never copied by hand. With --check nothing is written; exit code 1 says that a page
does not have the figures of the result files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lidar_tables
import node_tables
import peer_tables
import plan_tables
from calibration_tables import sampling, thresholds
from markdown_regions import number, table, update

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("benchmarks.md", "quantization.md", "lidar.md")),
)
METHODS = ("minmax", "percentile", "entropy", "mse")
FORMS = ("tensorrt", "cpu")
PEER = "onnxruntime quantize_static"

Result = Mapping[str, Any]


def load(name: str) -> Result | None:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def absent(name: str) -> str:
    return f"Not measured yet: `python benchmarks/{name}.py`."


NO_CARD = "Not measured: no card was at hand. With one: `python benchmarks/gpu.py --bundle DIR`."


def of(name: str, render: Callable[[Result], str], without: str = "") -> Callable[[], str]:
    """Render a result's figures, and what they were measured on; `without` stands for none."""

    def region() -> str:
        result = load(name)
        if result is None:
            return without or absent(name)
        return f"{render(result['figures'])}\n\n{provenance(result)}"

    return region


def provenance(result: Result) -> str:
    machine = result["machine"]
    instructions = [name.upper() for name in ("avx2", "vnni") if machine.get(name)]
    versions = ", ".join(
        f"{name} {result['versions'][name]}"
        for name in ("python", "numpy", "onnx", "onnxruntime", "tensorrt", "tensorrt-rtx-cu12")
        if name in result["versions"]
    )
    hardware = " ".join(
        [machine["cpu"], *(f"with {'/'.join(instructions)}",) * bool(instructions)]
    )
    return (
        f"`{result['command']}` on {machine['cores']} cores of {hardware}, "
        f"{machine['memory_gib']:g} GiB; {versions}."
    )


def fidelity(figures: Result) -> str:
    return "\n\n".join(fidelity_of(model, found) for model, found in figures.items())


def fidelity_of(model: str, found: Result) -> str:
    fp32 = found["fp32"]
    rows = [accuracy_row("FP32", "", fp32, fp32)]
    for placement, forms in found["av_compress"].items():
        for form in FORMS:
            share = f"{100 * forms['int8_mac_share'][form]:.0f} %"
            rows += [
                accuracy_row(f"{form}, {placement}, {method}", share, forms[form][method], fp32)
                for method in METHODS
            ]
    rows += [
        accuracy_row(f"ONNX Runtime `quantize_static`, {method}", "", values, fp32)
        for method, values in found[PEER].items()
    ]
    headers = ("model", "INT8", "AP50", "loss", "AP", "agreement AP50", "AP", "all images AP50")
    return f"### {model}\n\n{table((*headers, 'AP'), rows)}"


def accuracy_row(label: str, share: str, values: Result, fp32: Result) -> tuple[str, ...]:
    return (
        label,
        share,
        number(values["ap50"]),
        number(fp32["ap50"] - values["ap50"]),
        number(values["ap"]),
        *(
            number(values[f"agreement_{metric}{images}"])
            for images in ("", "_all_images")
            for metric in ("ap50", "ap")
        ),
    )


# Contestants of the calibration -> what they are called; the last one is the peer.
CALIBRATIONS = {
    "av_compress_tensorrt_form": "`tensorrt` form",
    "av_compress_both_forms": "both forms",
    "onnxruntime_entropy": "ONNX Runtime, Entropy",
}


def mixed_precision(figures: Result) -> str:
    return "\n\n".join(mixed_precision_of(model, found) for model, found in figures.items())


def mixed_precision_of(model: str, found: Result) -> str:
    header = (
        *("INT8", "nodes spared", "AP50 lost", "95 % interval"),
        *("agreement AP50", "AP", "all images AP50", "AP"),
    )
    rows = [
        (
            f"{100 * row['int8_mac_share']:.1f} %",
            str(row["nodes_spared"]),
            number(row["ap50_loss"]),
            " to ".join(number(value) for value in row["ap50_loss_interval"]),
            number(row["agreement_ap50"]),
            number(row["agreement_ap"]),
            number(row["agreement_ap50_all_images"]),
            number(row["agreement_ap_all_images"]),
        )
        for row in (*found["curve"], found["rounded_to_nearest"])
    ]
    rows[-1] = (f"{rows[-1][0]}, rounded to nearest", *rows[-1][1:])
    how = (
        f"Channels of {found['migrated']} nodes migrated, of {found['centred']} centred; the "
        f"sensitivities took {found['sensitivity_seconds']:.0f} s."
    )
    return f"### {model}\n\n{how}\n\n{table(header, rows)}"


def observers(figures: Result) -> str:
    rows = []
    for name, label in CALIBRATIONS.items():
        found, ratios = figures[name], figures["ratios"].get(name)
        rows.append(
            (
                label,
                f"{found['tensors']:.0f}",
                number(found["seconds"], 1),
                number(found["peak_mib"], 0),
                f"{ratios['speed']:.1f} x" if ratios else "",
                f"1 / {ratios['memory']:.0f}" if ratios else "",
            )
        )
    headers = ("calibration for", "tensors", "seconds", "peak MiB", "speed", "memory")
    size, samples = figures["size"], figures["samples"]
    return f"{samples} samples of {size}x{size}.\n\n{table(headers, rows)}"


def calibration(written: Callable[[Result], str]) -> Callable[[Result], str]:
    """Read a ratio to the peer for each of our contestants."""

    def read(figures: Result) -> str:
        return ", ".join(
            f"{written(ratios)} ({CALIBRATIONS[name]})"
            for name, ratios in sorted(figures["ratios"].items(), reverse=True)
        )

    return read


def peers(figures: Result) -> str:
    ours = load("mixed_precision")
    return peer_tables.peers(figures, {} if ours is None else ours["figures"])


def kinds(figures: Result) -> str:
    parts = [kinds_of(model, found) for model, found in figures["models"].items()]
    faster = [(name, f"{value:.2f} x") for name, value in figures["run_time"].items()]
    return "\n\n".join(
        [
            *parts,
            "### Operators quantised while the model runs",
            table(("operator", "speed of FP32"), faster),
            "Speeds are by processor time of one thread, medians of "
            f"{figures['rounds']} runs in turn. *quantised* is the share of multiply-accumulates "
            "with INT8 or FP8 operands, by the default rules.",
        ]
    )


def kinds_of(model: str, found: Result) -> str:
    detects = "agreement_ap" in found["FP32"]
    last = ("agreement AP50", "AP") if detects else ("largest difference",)
    keys = ("agreement_ap50", "agreement_ap") if detects else ("largest_difference",)
    rows = [
        (
            kind,
            f"{100 * one['mac_share']:.0f} %",
            f"{one['bytes'] / 1024:.0f}",
            f"{100 * one['size_of_fp32']:.0f} %",
            f"{one['speed_of_fp32']:.2f} x" if "speed_of_fp32" in one else "",
            *(number(one[key], 2 if detects else 4) for key in keys),
        )
        for kind, one in sorted(found.items(), key=lambda item: item[1]["place"])
    ]
    headers = ("kind", "quantised", "KiB", "of FP32", "speed on a CPU", *last)
    return f"### {model}\n\n{table(headers, rows)}"


def summary() -> str:
    """One line a promise: what was measured, and what has to hold."""
    rows = []
    for name, lines in SUMMARY.items():
        result = load(name)
        for label, read, goal in lines:
            measured = "not measured yet" if result is None else read(result["figures"])
            rows.append((label, measured, goal))
    return table(("figure", "measured", "must be"), rows)


def worst_loss(form: str) -> Callable[[Result], str]:
    """Read the loss of the model that loses most, with the best of the methods."""

    def read(figures: Result) -> str:
        loss, name = max((found["least_ap50_loss"][form], name) for name, found in figures.items())
        return f"{number(loss)} ({name})"

    return read


def peer_loss(figures: Result) -> str:
    """Read the same of the peer."""
    loss, name = max(
        (min(found["fp32"]["ap50"] - one["ap50"] for one in found[PEER].values()), name)
        for name, found in figures.items()
    )
    return f"{number(loss)} ({name})"


WANTED_SHARE = 0.95


def at_wanted_share(key: str) -> Callable[[Result], str]:
    """Read a figure of every real detector where 95 % of its arithmetic is INT8."""

    def read(figures: Result) -> str:
        found = []
        for found_of in figures.values():
            rows = [r for r in found_of["curve"] if r["int8_mac_share"] >= WANTED_SHARE]
            found.append(number(min(rows, key=lambda row: row["int8_mac_share"])[key]))
        return f"{', '.join(found)} ({', '.join(figures)})"

    return read


SUMMARY: Mapping[str, tuple[tuple[str, Callable[[Result], str], str], ...]] = {
    "fidelity": (
        ("AP50 lost on the worst real detector, `tensorrt` form", worst_loss("tensorrt"), "≤ 1.0"),
        ("AP50 lost on the worst real detector, `cpu` form", worst_loss("cpu"), "≤ 1.0"),
        ("AP50 lost by ONNX Runtime's `quantize_static` on its worst", peer_loss, ""),
    ),
    "mixed_precision": (
        (
            "AP50 lost without a list of layers, 95 % of the arithmetic in INT8",
            at_wanted_share("ap50_loss"),
            "≤ 0.25",
        ),
        (
            "agreement with the detections of FP32 there, AP50:95",
            at_wanted_share("agreement_ap"),
            "≥ 82, 93, 92",
        ),
    ),
    "observers": (
        (
            "calibration's speed, ONNX Runtime Entropy = 1",
            calibration(lambda ratios: f"{ratios['speed']:.1f} x"),
            "≥ 4 x",
        ),
        (
            "calibration's peak memory, ONNX Runtime Entropy = 1",
            calibration(lambda ratios: f"1 / {ratios['memory']:.0f}"),
            "≤ 1 / 30",
        ),
    ),
    "cpu_peers": (
        (
            "speed of the `cpu` form on a YOLOv8n-like network, FP32 = 1",
            peer_tables.cpu_speed,
            "≥ 1.5 x",
        ),
        ("the same on the slowest of the real detectors", peer_tables.slowest_detector, "≥ 1.5 x"),
    ),
    "build": (
        ("peak memory of a whole build, 128 samples", peer_tables.build_memory, "≤ 1536 MiB"),
    ),
    "load": (
        (
            "verified load of a signed plan, before TensorRT deserialises it; as a process",
            lambda figures: f"{figures['load_s']:.3f} s; {figures['load_process_s']:.2f} s",
            "< 1 s",
        ),
        (
            "compiling an unchanged bundle again; as a process",
            lambda figures: (
                f"{figures['compile_again_s']:.3f} s; {figures['compile_again_process_s']:.2f} s"
            ),
            "< 1 s",
        ),
    ),
    "node_overhead": (
        (
            "node's overhead, publish to received detections, median",
            lambda figures: f"{figures['overhead_median_ms']['camera_detector']:.1f} ms",
            "≤ 10 ms",
        ),
        (
            "the same against a plain node's",
            lambda figures: f"{figures['ratio_to_plain_node']:.2f}",
            "≤ 0.5",
        ),
    ),
    "lidar": (
        (
            "120 000 points to a pillar model's inputs, one core",
            lambda figures: f"{figures['ms']['ours']:.1f} ms",
            "≤ 12 ms",
        ),
        (
            "straightforward numpy for the same, ours = 1",
            lambda figures: f"{figures['numpy_by_ours']:.1f} x",
            "≥ 8 x",
        ),
    ),
    "lidar_node": (
        (
            "LiDAR node's overhead with 120 000 points, median",
            lambda figures: f"{figures['overhead_median_ms']['lidar_detector']:.1f} ms",
            "≤ 10 ms",
        ),
        (
            "camera at 30 Hz and LiDAR at 10 Hz side by side: answered",
            node_tables.side_by_side,
            "≥ 99 %, the rest counted as dropped",
        ),
    ),
}

REGIONS = {
    "summary": summary,
    "fidelity": of("fidelity", fidelity),
    "mixed_precision": of("mixed_precision", mixed_precision),
    "sampling": of("sampling", sampling),
    "thresholds": of("thresholds", thresholds),
    "observers": of("observers", observers),
    "peers": of("peers", peers),
    "cpu_peers": of("cpu_peers", peer_tables.cpu_peers),
    "build": of("build", peer_tables.build),
    "node_overhead": of("node_overhead", node_tables.node_overhead),
    "lidar_node": of("lidar_node", node_tables.lidar_node),
    "multi_camera": of("multi_camera", node_tables.multi_camera),
    "compile": of("compile", plan_tables.compiled),
    "load": of("load", plan_tables.load),
    "lidar": of("lidar", plan_tables.clouds, "Not measured yet: `python benchmarks/lidar.py`."),
    "lidar_int8": of("lidar_int8", lidar_tables.int8_clouds),
    "gpu": of("gpu", plan_tables.on_card, NO_CARD),
    "choice": of("choice", plan_tables.chosen),
    "kinds": of("kinds", kinds),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if outdated")
    args = parser.parse_args()
    return update(FILES, "benchmarks", REGIONS, args.check)


if __name__ == "__main__":
    sys.exit(main())
