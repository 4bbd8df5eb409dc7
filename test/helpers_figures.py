# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Figures as benchmarks write them, and a copy of the project whose pages they go into."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from test_docs import ROOT, SCRIPTS


def accuracy(ap50: float) -> dict[str, float]:
    return {
        "ap50": ap50,
        "ap": ap50 / 2,
        "agreement_ap50": ap50 + 50,
        "agreement_ap": ap50 + 40,
        "agreement_ap50_all_images": ap50 + 30,
        "agreement_ap_all_images": ap50 + 20,
    }


def agreement(ap: float) -> dict[str, float]:
    return {"agreement_ap50": ap + 5, "agreement_ap": ap, "output_error": 0.0123}


def contestant(label: str, median_ms: float, speed: float, **more: float) -> dict[str, object]:
    return {"label": label, "median_ms": median_ms, "speed_of_fp32": speed, **more}


def latency(ms: float) -> dict[str, float]:
    return {"p50_ms": ms, "p99_ms": 2 * ms, "count": 10}


def lost(*values: object) -> dict[str, object]:
    return dict(zip(("agreement_ap50", "agreement_ap", "ap50", "kitti_r40"), values))


def spreads(mean: float) -> dict[str, object]:
    return lost(*[{"mean": mean, "deviation": 0.5, "worst": mean + 1}] * 4)


RUN = {
    "frames": 300,
    "answered": 299,
    "median_ms": 20.5,
    "p95_ms": 22.0,
    "p99_ms": 23.0,
    "max_ms": 24.0,
    "rss_first_mb": 200.0,
    "rss_last_mb": 200.5,
    "counts": {"received": 300, "processed": 299, "dropped": 1, "failed": 0},
}
RESULTS = {
    "lidar_node": {
        "bundle": "lidar",
        "clouds": "120000 points at 10 Hz",
        "images": "1280x720 bgr8 at 30 Hz",
        "bare_median_ms": 14.25,
        "overhead_median_ms": {"lidar_detector": 6.25, "plain_node": 20.0},
        "ratio_to_plain_node": 0.31,
        "runs": {"lidar_detector": RUN},
        "side_by_side": {
            "camera_detector": {**RUN, "lost": 0},
            "lidar_detector": {**RUN, "answered": 290, "lost": 9},
        },
    },
    "lidar": {
        "points": 120000,
        "pillars": 12086,
        "grown_mib": 0.5,
        "numpy_by_ours": 11.0,
        "ms": {"ours": 4.0, "spconv, pillars alone": 2.5},
        "merging_ms": {"10 sweeps brought together": 23.456},
    },
    "load": {
        "goal_s": 1,
        "load_s": 0.0123,
        "load_process_s": 0.3456,
        "compile_again_s": 0.0045,
        "compile_again_process_s": 0.4,
        "plan_bytes": 3 << 20,
        "model_bytes": 1 << 19,
        "rounds": 20,
    },
    "gpu": {
        "card": {"gpu": "Orin", "compute_capability": "8.7", "power_mode": "MAXN"},
        "copies": {
            "page_locked_in_gb_per_s": 12.34,
            "page_locked_out_gb_per_s": 11,
            "other_in_gb_per_s": 6,
            "other_out_gb_per_s": 5,
        },
        "bundles": {
            "demo": {
                "tensorrt": {
                    "compile_s": 61.5,
                    "compile_again_s": 4,
                    "load_s": 0.5,
                    "load_again_s": 0.25,
                    "models": [
                        {
                            "name": "demo/tensorrt, plan 0123",
                            "latencies": {
                                "total": latency(1.5),
                                "h2d": latency(0.25),
                                "execute": latency(1),
                                "d2h": latency(0.125),
                            },
                            "throughput": [
                                {"in_flight": 1, "frames_per_s": 600},
                                {"in_flight": 2, "frames_per_s": 900.4},
                            ],
                        }
                    ],
                },
                "tensorrt_rtx": {"refused": "no | card"},
            }
        },
    },
    "multi_camera": {
        "cameras": 4,
        "threads_1": {"batched_ms": 7.5, "single_ms": 10.0, "time_of_single": 0.75},
        "batched_mib": 123.5,
        "single_mib_each": 99.6,
        "memory_of_single": 0.31,
    },
    "compile": {
        "first": {
            "INT8": {
                "8.6": {"refused": "no memory"},
                "8.9": {
                    "seconds": 1.25,
                    "peak_mib": 400,
                    "plan_kib": 70,
                    "kernels": 12,
                    "activation_mb": 3.5,
                    "weights_mb": 0.5,
                    "asked_int8": 4,
                    "differing": ["conv"],
                },
            },
        },
    },
    "kinds": {
        "rounds": 20,
        "threads": 1,
        "models": {
            "first": {
                name: {
                    "place": place,
                    "mac_share": 0.5 * place,
                    "bytes": 2048 - 1024 * place,
                    "size_of_fp32": 1 - 0.5 * place,
                    "agreement_ap50": 100.0 - place,
                    "agreement_ap": 99.0,
                }
                for place, name in enumerate(("FP32", "FP16"))
            }
        },
        "run_time": {"product": 2.5},
    },
    "observers": {
        "size": 640,
        "samples": 64,
        **{
            name: {"tensors": 58, "seconds": 9.28, "peak_mib": 293.2}
            for name in (
                "av_compress_tensorrt_form",
                "av_compress_both_forms",
                "onnxruntime_entropy",
            )
        },
        "ratios": {
            "av_compress_both_forms": {"speed": 2.64, "memory": 21.1},
            "av_compress_tensorrt_form": {"speed": 4.268, "memory": 37.9},
        },
    },
    "cpu_peers": {
        "rounds": 30,
        "threads": 1,
        "models": {
            "yolov8n_like": {
                "onnxruntime_fp32": contestant("FP32", 98.314, 1.0),
                "openvino_fp32": {"label": "OpenVINO", "failed": "not installed: no network"},
                "ours_rules": contestant("ours", 41.29, 2.381, int8_mac_share=0.9769),
            },
            "first": {
                "onnxruntime_fp32": contestant("FP32", 9, 1.0, **accuracy(50.0)),
                "ours_rules": {"label": "ours", "failed": "refused"},
                "ours_search": contestant("ours, searched", 5, 1.8, **accuracy(49.0)),
            },
        },
    },
    "build": {
        "million_parameters": 3.5005,
        "size": 320,
        "evaluations": 40,
        "emitters": ["tensorrt"],
        "runs": {
            "32": {"seconds": 99.6, "peak_mib": 573, "exit_code": 0},
            "128": {"seconds": 300, "peak_mib": 580, "exit_code": 1, "said": "refused"},
        },
    },
    "mixed_precision": {
        "first": {
            "migrated": 1,
            "centred": 1,
            "sensitivity_seconds": 1,
            "rounded_to_nearest": {
                "int8_mac_share": 1.0,
                "nodes_spared": 0,
                "ap50_loss": 0,
                "ap50_loss_interval": [-1, 1],
                **accuracy(39.0),
            },
            "curve": [
                {
                    "int8_mac_share": share,
                    "nodes_spared": 0,
                    "ap50_loss": 0,
                    "ap50_loss_interval": [-1, 1],
                    **accuracy(reached),
                }
                for share, reached in ((1.0, 40.0), (0.97, 45.0), (0.9502, 46.0))
            ],
        },
    },
    "peers": {
        "models": {
            "first": {
                "peers": {
                    "nncf": {
                        "label": "NNCF",
                        "int8_mac_share": 0.951,
                        "tensorrt_mac_share": 0.8,
                        "ap50_loss": -0.004,
                        **accuracy(30.0),
                    },
                    "modelopt": {"label": "ModelOpt", "failed": "no memory"},
                }
            }
        }
    },
    "fidelity": {
        name: {
            "fp32": accuracy(50.0),
            "av_compress": {
                "default": {
                    "int8_mac_share": {"tensorrt": 0.851, "cpu": 0.851},
                    **{
                        form: {
                            method: accuracy(reached)
                            for method in ("minmax", "percentile", "entropy", "mse")
                        }
                        for form in ("tensorrt", "cpu")
                    },
                }
            },
            "onnxruntime quantize_static": {"minmax": accuracy(20.0), "entropy": accuracy(30.0)},
            "least_ap50_loss": {"tensorrt": 50 - reached, "cpu": 50 - reached + 0.25},
        }
        for name, reached in (("first", 49.5), ("second", 50.004))
    },
    "lidar_int8": {
        "frames": 8,
        "pairs": 7,
        "detections": 81,
        "objects": 25,
        "fp32": lost(100, 100, 26.7, 12.34),
        "recipes": {
            name: {
                "place": place,
                "int8_mac_share": {"least": 0.9 - place / 10, "mean": 0.95},
                "pairs": spreads(0.25 + place),
                "splits": spreads(-1.5),
                "interval": lost([-0.5, 1], [2, 3], [-1, 0], [0, 0]),
            }
            for name, place in (("searched", 1), ("rules", 0))
        },
    },
    "sampling": {
        "seeds": 5,
        "models": {
            "first": {
                "bag": {
                    "frames": 53,
                    "all frames": agreement(92.5),
                    "4": {
                        "stride": agreement(90.0),
                        "coverage": agreement(91.0),
                        "random": {
                            "agreement_ap": [88.0, 89.5, 93.25],
                            "output_error": [0.01, 0.0154, 0.02],
                        },
                    },
                }
            }
        },
    },
    "thresholds": {
        "first": {
            "seconds": 3.5,
            "tensors": 71,
            "chosen": {"mse": 3, "entropy": 2},
            "error_alone": {"mse": 0.104, "best": 0.0315},
            "shares": {
                "0.95": {
                    "int8_mac_share": 0.9504,
                    "methods": {"mse": agreement(93.0), "best": agreement(94.0)},
                    "chance": {
                        "agreement_ap50": [96.0, 99.0],
                        "agreement_ap": [92.0, 95.0],
                        "output_error": [0.0101, 0.0212],
                    },
                }
            },
        }
    },
}


def copy_project(root: Path) -> Path:
    """Return a copy of what the script reads and writes, without any result."""
    scripts = (
        "calibration_tables",
        "lidar_tables",
        "markdown_regions",
        "node_tables",
        "peer_tables",
        "plan_tables",
    )
    scripts += ("render_benchmarks",)
    for name in (f"{script}.py" for script in scripts):
        (root / "scripts").mkdir(exist_ok=True)
        shutil.copy(SCRIPTS / name, root / "scripts" / name)
    (root / "docs").mkdir()
    for name in ("benchmarks.md", "quantization.md", "lidar.md"):
        shutil.copy(ROOT / "docs" / name, root / "docs")
    (root / "README.md").write_text("<!-- benchmarks:summary -->\n<!-- /benchmarks -->\n")
    (root / "benchmarks/results").mkdir(parents=True)
    return root


def render(project: Path, *arguments: str) -> int:
    script = project / "scripts/render_benchmarks.py"
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def write_results(project: Path) -> None:
    """Write the figures of every benchmark."""
    for name, figures in RESULTS.items():
        content = {
            "command": f"python benchmarks/{name}.py",
            "machine": {"cpu": "CPU X", "cores": 2, "memory_gib": 7.5, "avx2": True},
            "versions": {"python": "3.11.7", "numpy": "2.0.0", "pip": "1"},
            "figures": figures,
        }
        (project / f"benchmarks/results/{name}.json").write_text(json.dumps(content))
