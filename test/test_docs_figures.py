# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Measured figures reach the pages as they were measured, and absent ones are said to be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
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


@pytest.fixture
def project(tmp_path) -> Path:
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
        (tmp_path / "scripts").mkdir(exist_ok=True)
        shutil.copy(SCRIPTS / name, tmp_path / "scripts" / name)
    (tmp_path / "docs").mkdir()
    for name in ("benchmarks.md", "quantization.md", "lidar.md"):
        shutil.copy(ROOT / "docs" / name, tmp_path / "docs")
    (tmp_path / "README.md").write_text("<!-- benchmarks:summary -->\n<!-- /benchmarks -->\n")
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    return tmp_path


def render(project: Path, *arguments: str) -> int:
    script = project / "scripts/render_benchmarks.py"
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def test_figures_that_are_absent_are_said_to_be(project):
    assert render(project) == 0
    text = (project / "docs/benchmarks.md").read_text(encoding="utf-8")
    measured = ("fidelity", "sampling", "thresholds", "observers", "cpu_peers", "build", "peers")
    measured += ("compile", "multi_camera", "load")
    for name in (*measured, "node_overhead", "lidar_node"):
        assert f"Not measured yet: `python benchmarks/{name}.py`." in text
    assert "Not measured: no card was at hand." in text
    assert (project / "README.md").read_text().count("not measured yet") == 18


def test_figures_go_into_the_pages_as_they_were_measured(project):
    for name, figures in RESULTS.items():
        content = {
            "command": f"python benchmarks/{name}.py",
            "machine": {"cpu": "CPU X", "cores": 2, "memory_gib": 7.5, "avx2": True},
            "versions": {"python": "3.11.7", "numpy": "2.0.0", "pip": "1"},
            "figures": figures,
        }
        (project / f"benchmarks/results/{name}.json").write_text(json.dumps(content))
    assert render(project, "--check") == 1
    assert render(project) == 0
    assert render(project, "--check") == 0
    lines = (project / "docs/benchmarks.md").read_text(encoding="utf-8").splitlines()
    assert "| ours (98 % INT8) | 41.29 | 2.38 x |  |  |  |" in lines
    assert "| FP32 | 98.31 | 1.00 x |  |  |  |" in lines
    latencies = "20.50 | 22.00 | 23.00 | 24.00"
    assert f"| lidar_detector | 299 of 300 | {latencies} | 6.25 | 200.0 → 200.5 |" in lines
    assert "| spconv, pillars alone | 2.50 | 0.62 |" in lines
    assert "| 10 sweeps brought together | 23.46 |" in lines
    assert f"| lidar_detector | 290 of 300 | {latencies} | 1 | 9 |" in lines
    assert "| ours, searched | 5.00 | 1.80 x | 49.00 | 99.00 | 89.00 |" in lines
    assert "| OpenVINO: not installed: no network |  |  |  |  |  |" in lines
    # Beside a peer stands what ours reaches with at least its share, within a tenth of a percent.
    nncf = "| NNCF | 95.1 % | 80.0 % | 0.00 | 80.00 | 70.00 | 96.00 | 86.00 |"
    assert nncf in lines
    assert "- ModelOpt: no memory" in lines
    assert "| ms for 4 images, threads: 1 | 7.50 | 10.00 | 0.75 |" in lines
    assert "| MiB | 124 | 4 x 100 | 0.31 |" in lines
    assert "| 128 | 300 | 580 | refused |" in lines
    tensorrt = (
        "| tensorrt, default, mse | 85 % | 49.50 | 0.50 | 24.75 | 99.50 | 89.50 | 79.50 | 69.50 |"
    )
    assert tensorrt in lines
    assert any(
        line.startswith("| cpu, default, mse | 85 % | 50.00 | 0.00 | 25.00 |") for line in lines
    )
    assert (
        "`python benchmarks/fidelity.py` on 2 cores of CPU X with AVX2, 7.5 GiB; "
        "python 3.11.7, numpy 2.0.0." in lines
    )
    summary = (project / "README.md").read_text(encoding="utf-8").splitlines()
    assert (
        "| AP50 lost on the worst real detector, `tensorrt` form | 0.50 (first) | ≤ 1.0 |"
        in summary
    )
    assert "| AP50 lost on the worst real detector, `cpu` form | 0.75 (first) | ≤ 1.0 |" in summary
    speed = "speed of the `cpu` form on a YOLOv8n-like network, FP32 = 1"
    assert f"| {speed} | 2.38 x | ≥ 1.5 x |" in summary
    assert (
        "| the same on the slowest of the real detectors | 1.80 x (first) | ≥ 1.5 x |" in summary
    )
    assert "| peak memory of a whole build, 128 samples | 580 MiB | ≤ 1536 MiB |" in summary
    measured = "4.3 x (`tensorrt` form), 2.6 x (both forms)"
    assert f"| calibration's speed, ONNX Runtime Entropy = 1 | {measured} | ≥ 4 x |" in summary
    assert "| `tensorrt` form | 58 | 9.3 | 293 | 4.3 x | 1 / 38 |" in lines
    sampled = "| first | bag | 4 | 90.00 | 91.00 | 89.50 (88.00 to 93.25) | 92.50 |"
    assert sampled in lines
    means = (
        "Mean over all rows: stride 90.00, coverage 91.00, random 89.50. Mean squared error of "
        "the raw outputs, % of their variance: stride 1.23, coverage 1.23, random 1.54."
    )
    assert means in lines
    assert "| first | 95.0 % | best | 99.00 | 94.00 | 1.23 |" in lines
    moved = "| first | 95.0 % | mse, raised by up to 3 % | 96.00 to 99.00 | 92.00 to 95.00 |"
    assert f"{moved} 1.01 to 2.12 |" in lines
    assert "| first | INT8 | 1.25 | 70 | 12 | 3.50 | 0.50 |" in lines
    assert "| verified load | 0.0123 | 0.346 |" in lines
    assert "| compiled again | 0.0045 | 0.400 |" in lines
    assert "3.0 MiB of plan and 0.5 MiB of models; medians of 20 runs." in lines
    on_card = "| demo | demo/tensorrt, plan 0123 | 61.50 | 4.00 | 0.50 | 0.25 | 1.500 | 3.000 |"
    assert f"{on_card} 0.250 | 1.000 | 0.125 | 600 | 900 |" in lines
    assert any(line.startswith("| demo | tensorrt_rtx: no \\| card |  |") for line in lines)
    copied = "page-locked 12.3 in and 11.0 out, other memory 6.0 in and 5.0 out."
    assert f"Orin, compute capability 8.7, power mode MAXN. Copies in GB/s: {copied}" in lines
    made = "1 of 2 compilations went through, for compute capability 8.6, 8.9, in at most 1.2 s"
    became = "Of 4 weighted nodes that were to be INT8 or FP8, 1 became float."
    assert any(line.startswith(made) and became in line for line in lines)
    clouds = (project / "docs/lidar.md").read_text(encoding="utf-8").splitlines()
    rest = "0.25 (1.25), 2.00 to 3.00 | 0.25 (1.25), -1.00 to 0.00 | 0.25 (1.25), 0.00 to 0.00 |"
    first = clouds.index(f"| rules | 90.0 % | 0.25 (1.25), -0.50 to 1.00 | {rest}")
    assert clouds[first + 1].startswith("| searched | 80.0 % | 1.25 (2.25), ")
    assert f"| rules |{' -1.50 ± 0.50 |' * 4}" in clouds
    assert any("AP50 on labels 26.70, KITTI's on labels 12.34." in line for line in clouds)
    kinds = (project / "docs/quantization.md").read_text(encoding="utf-8").splitlines()
    assert "| FP32 | 0 % | 2 | 100 % |  | 100.00 | 99.00 |" in kinds
    assert kinds.index("| FP16 | 50 % | 1 | 50 % |  | 99.00 | 99.00 |") > kinds.index(
        "| FP32 | 0 % | 2 | 100 % |  | 100.00 | 99.00 |"
    )
    assert "| product | 2.50 x |" in kinds
    assert "| first | entropy 2, mse 3 | 5 of 71 | 10.40 | 3.15 | 4 |" in lines
    # The better of the peer's methods, on the model where that loses most.
    peer = "AP50 lost by ONNX Runtime's `quantize_static` on its worst"
    assert any(line.startswith(f"| {peer} | 20.00 (") for line in summary)
