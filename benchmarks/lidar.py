# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""From a LiDAR's message to a pillar model's inputs, on one core, against others.

    python benchmarks/lidar.py [--data ../shared/data] [--spconv PYTHON] [--rounds 40]

A recorded sweep of 120 000 points, pillars of 0.16 m in front of the car as PointPillars has
them: at most 32 points a pillar, 9 features. Ours is all of it: reading the message, filter,
pillars, features. The straightforward way in numpy does the same by sorting; spconv's
point-to-voxel, in an environment of its own that --spconv names, makes pillars alone: their places
and the points in them, and so does ours, in a loop of its own like spconv's. The others by turns;
medians. Memory is what the process has grown by after a thousand more clouds.

Then what a model of ten sweeps takes, the tenth time and after: each new sweep of 120 000 points
is brought together with the nine before it, over which the vehicle drove and turned, without the
points in a box around the vehicle; and CenterPoint's pillars of 0.2 m are made of them. And two
LiDARs of 60 000 points each, 20 ms apart, are merged into one cloud.

The exit code is 1 where a goal is missed: the times, spconv's where it is named, and memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if __name__ == "__main__":  # Before they are imported.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"

import numpy as np
from clouds import sweep
from common import interleaved_medians, peak_memory_mib, save_results

from av_compress.data.merging import MergeOptions, merge_clouds
from av_compress.data.points import PointField, PointOptions, cloud_from_message
from av_compress.data.sweeps import SweepMerger
from av_compress.data.transforms import Transform, Transforms
from av_compress.tasks.base import Box, PointCloud, Sweeps
from av_compress.tasks.lidar_detection import LidarDetection

ROOT = Path(__file__).resolve().parent.parent
DEPTH, ROOM = 32, 40_000
LOWER, UPPER, SIZE = (0.0, -39.68, -3.0), (69.12, 39.68, 1.0), (0.16, 0.16, 4.0)
GOAL_MS, GOAL_SPEEDUP, GOAL_GROWN_MIB = 12.0, 8.0, 2.0
OURS, SPCONVS = "ours, pillars alone", "spconv, pillars alone"
TASK = {
    "kind": "lidar_detection",
    "class_names": ["car"],
    "input": {
        "lower": list(LOWER),
        "upper": list(UPPER),
        "voxel_size": list(SIZE),
        "encoder": {"type": "voxels", "max_points": DEPTH, "max_voxels": ROOM},
    },
    "head": {"type": "center"},
}
# The points of pillars as they are: what spconv makes of them.
ALONE = {
    **TASK,
    "input": {
        **TASK["input"],
        "encoder": {**TASK["input"]["encoder"], "features": ["x", "y", "z", "intensity"]},
    },
}
SWEEPS = Sweeps(count=10, max_age_s=1.0, ego_box=Box((-2.0, -1.0, -2.0), (2.5, 1.0, 1.0)))
# CenterPoint with pillars, as for nuScenes.
TEN_SWEEPS = {
    "kind": "lidar_detection",
    "class_names": ["car"],
    "input": {
        "lower": [-51.2, -51.2, -5.0],
        "upper": [51.2, 51.2, 3.0],
        "voxel_size": [0.2, 0.2, 8.0],
        "encoder": {
            "type": "voxels",
            "features": "centerpoint",
            "max_points": 20,
            "max_voxels": 60_000,
        },
        "sweeps": {"count": SWEEPS.count, "max_age_s": SWEEPS.max_age_s},
    },
    "head": {"type": "center"},
}
STEP_NS, APART_NS = 100_000_000, 20_000_000
SPCONV = """
import json, statistics, sys, time
import numpy as np
from cumm import tensorview as tv
from spconv.utils import Point2VoxelCPU3d

path, depth, room, rounds = sys.argv[1], *map(int, sys.argv[2:5])
low, high, size = (list(map(float, text.split(","))) for text in sys.argv[5:8])
array = np.load(path)  # Must outlive the view.
points = tv.from_numpy(array)
made = Point2VoxelCPU3d(
    vsize_xyz=size, coors_range_xyz=low + high, num_point_features=4,
    max_num_voxels=room, max_num_points_per_voxel=depth)
times = []
for _ in range(rounds + 3):
    started = time.perf_counter()
    voxels, _, _ = made.point_to_voxel(points)
    times.append(time.perf_counter() - started)
print(json.dumps({"ms": 1e3 * statistics.median(times[3:]), "voxels": voxels.shape[0]}))
"""


def message_of(points: np.ndarray) -> SimpleNamespace:
    """Return a PointCloud2 as drivers publish it."""
    names = ("x", "y", "z", "intensity")
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0), frame_id="lidar"),
        height=1,
        width=len(points),
        fields=[PointField(name, 4 * index, 7) for index, name in enumerate(names)],
        is_bigendian=False,
        point_step=16,
        row_step=16 * len(points),
        data=points.tobytes(),
        is_dense=True,
    )


def by_sorting(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make pillars and features the straightforward way."""
    lower, upper, size = (np.array(values, np.float32) for values in (LOWER, UPPER, SIZE))
    kept = points[((points[:, :3] >= lower) & (points[:, :3] < upper)).all(axis=1)]
    cells = np.floor((kept[:, :3] - lower) / size).astype(np.int64)
    columns = round((UPPER[0] - LOWER[0]) / SIZE[0])
    flat = cells[:, 1] * columns + cells[:, 0]
    _, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    pillar = rank[inverse]
    order = np.argsort(pillar, kind="stable")
    ordered = pillar[order]
    slot = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    room = slot < DEPTH
    values = np.zeros((len(first), DEPTH, 4), np.float32)
    values[ordered[room], slot[room]] = kept[order[room]]
    counts = np.minimum(np.bincount(pillar), DEPTH)
    filled = np.arange(DEPTH) < counts[:, None]
    means = values[:, :, :3].sum(axis=1) / counts[:, None]
    indices = np.sort(first)
    centers = (cells[indices, :2] + np.float32(0.5)) * size[:2] + lower[:2]
    features = np.concatenate(
        [values, values[:, :, :3] - means[:, None], values[:, :, :2] - centers[:, None]], axis=2
    )
    features[~filled] = 0
    return features, flat[indices]


def timed(work: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run


def spconv(python: str, points: np.ndarray, rounds: int) -> dict[str, float]:
    """Time spconv in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.npy"
        np.save(path, points)
        numbers = [str(n) for n in (DEPTH, ROOM, rounds)]
        ranges = [",".join(map(str, values)) for values in (LOWER, UPPER, SIZE)]
        done = subprocess.run(
            [python, "-c", SPCONV, str(path), *numbers, *ranges],
            capture_output=True,
            text=True,
            check=True,
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def drive(rounds: int) -> Transforms:
    """Return where two LiDARs are while the vehicle drives 10 m/s and turns by 0.2 rad/s."""
    transforms = Transforms(memory_s=float("inf"))
    for name, x in (("lidar", 1.0), ("rear", -1.0)):
        transforms.add_static("base_link", name, Transform.of((x, 0, 1.8), (0, 0, 0, 1)))
    for step in range(-1, rounds + 1):
        seconds = step * STEP_NS / 1e9
        half = 0.1 * seconds
        turned = (0, 0, np.sin(half), np.cos(half))
        place = Transform.of((10 * seconds, 0, 0), turned)
        transforms.add("odom", "base_link", step * STEP_NS, place)
    return transforms


def clouds(points: np.ndarray) -> Iterator[PointCloud]:
    """Yield a sweep again and again, as a LiDAR of 10 Hz measures."""
    step = 0
    while True:
        yield PointCloud(points.copy(), step * STEP_NS, "lidar")
        step += 1


def measure_merging(points: np.ndarray, rounds: int) -> dict[str, float]:
    """Return the median milliseconds of bringing clouds together, and of a model of ten sweeps."""
    warm_up = SWEEPS.count
    transforms = drive(warm_up + rounds)
    merger, task = SweepMerger(SWEEPS, transforms), LidarDetection.from_config(TEN_SWEEPS)
    sweeps, parts = clouds(points), [half.copy() for half in np.array_split(points, 2)]
    held: list[PointCloud] = []

    def ten_sweeps() -> float:
        new = next(sweeps)
        started = time.perf_counter()
        held[:] = [merger.merge(new).cloud]
        return time.perf_counter() - started

    def two_lidars() -> object:
        both = {
            "front": PointCloud(parts[0], STEP_NS, "lidar"),
            "rear": PointCloud(parts[1], STEP_NS - APART_NS, "rear"),
        }
        return merge_clouds(both, MergeOptions("base_link"), transforms).cloud

    medians = interleaved_medians(
        {
            f"{SWEEPS.count} sweeps brought together": ten_sweeps,
            "pillars and features of them": timed(lambda: task.preprocess(held[0])),
            f"2 LiDARs of {len(parts[0])} points merged": timed(two_lidars),
        },
        rounds,
        warm_up,
    )
    return {name: round(1e3 * value, 3) for name, value in medians.items()}


def missed(figures: Mapping[str, Any]) -> list[str]:
    """Tell which goals figures miss; spconv's is one where it was measured."""
    took = figures["ms"]
    goals = {
        f"ours takes {took['ours']} ms; at most {GOAL_MS:g}": took["ours"] <= GOAL_MS,
        f"numpy takes {figures['numpy_by_ours']} times as long; at least {GOAL_SPEEDUP:g}": (
            figures["numpy_by_ours"] >= GOAL_SPEEDUP
        ),
        f"memory grew by {figures['grown_mib']} MiB; at most {GOAL_GROWN_MIB:g}": (
            figures["grown_mib"] <= GOAL_GROWN_MIB
        ),
    }
    if SPCONVS in took:
        goals[f"pillars alone take {took[OURS]} ms; at most spconv's {took[SPCONVS]}"] = (
            took[OURS] <= took[SPCONVS]
        )
    return [what for what, reached in goals.items() if not reached]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--spconv", metavar="PYTHON", help="of an environment that has spconv")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    points = sweep(args.data)
    message, task = message_of(points), LidarDetection.from_config(TASK)
    options, alone = PointOptions(channels=4), LidarDetection.from_config(ALONE)

    def ours() -> dict[str, np.ndarray]:
        return task.preprocess(cloud_from_message(message, options)).tensors

    def reading() -> None:
        cloud_from_message(message, options)

    features, indices = by_sorting(points)
    tensors = ours()
    np.testing.assert_array_equal(tensors["indices"], indices)
    np.testing.assert_allclose(tensors["voxels"], features, atol=2e-5)
    medians = interleaved_medians(
        {
            "ours": timed(ours),
            "reading alone": timed(reading),
            "numpy by sorting": timed(lambda: by_sorting(points)),
        },
        rounds=args.rounds,
    )
    # As spconv's: one after the other, with nothing between that takes the caches from it.
    medians |= interleaved_medians(
        {OURS: timed(lambda: alone.preprocess(PointCloud(points)))}, args.rounds
    )
    figures = {
        "points": len(points),
        "pillars": len(indices),
        "ms": {name: round(1e3 * value, 3) for name, value in medians.items()},
    }
    before = peak_memory_mib()
    for _ in range(1000):
        ours()
    figures["grown_mib"] = round(peak_memory_mib() - before, 1)
    if args.spconv:
        found = spconv(args.spconv, points, args.rounds)
        figures["ms"][SPCONVS] = round(found["ms"], 3)
        figures["spconv_pillars"] = found["voxels"]
    figures["numpy_by_ours"] = round(medians["numpy by sorting"] / medians["ours"], 2)
    figures["merging_ms"] = measure_merging(points, args.rounds)
    print(json.dumps(figures, indent=2))
    save_results("lidar", figures, ("numba",))
    faults = missed(figures)
    print("\n".join(f"NOT held: {what}" for what in faults) or "held")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
