# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""From a LiDAR's message to a pillar model's inputs, on one core, against others.

    python benchmarks/lidar.py [--data ../shared/data] [--spconv PYTHON] [--rounds 40]

A recorded sweep of 120 000 points, pillars of 0.16 m in front of the car as PointPillars has
them: at most 32 points a pillar, 9 features. Ours is all of it: reading the message, filter,
pillars, features. The straightforward way in numpy does the same by sorting; spconv's
point-to-voxel, in an environment of its own that --spconv names, makes pillars alone. By turns;
medians. Memory is what the process has grown by after a thousand more clouds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
from clouds import sweep
from common import interleaved_medians, peak_memory_mib, save_results

from av_compress.data.points import PointField, PointOptions, cloud_from_message
from av_compress.tasks.lidar_detection import LidarDetection
from av_compress.tasks.lidar_detection.grid import Grid
from av_compress.tasks.lidar_detection.voxels import VoxelLimits, voxelise

ROOT = Path(__file__).resolve().parent.parent
DEPTH, ROOM = 32, 40_000
LOWER, UPPER, SIZE = (0.0, -39.68, -3.0), (69.12, 39.68, 1.0), (0.16, 0.16, 4.0)
GOAL_MS, GOAL_SPEEDUP = 12.0, 8.0
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--spconv", metavar="PYTHON", help="of an environment that has spconv")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    points = sweep(args.data)
    message, task = message_of(points), LidarDetection.from_config(TASK)
    options = PointOptions(channels=4)
    grid, limits = Grid(LOWER, UPPER, SIZE), VoxelLimits(DEPTH, ROOM)

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
            "ours, pillars alone": timed(lambda: voxelise(points, grid, limits)),
            "reading alone": timed(reading),
            "numpy by sorting": timed(lambda: by_sorting(points)),
        },
        rounds=args.rounds,
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
        figures["ms"]["spconv, pillars alone"] = round(found["ms"], 3)
        figures["spconv_pillars"] = found["voxels"]
    figures["numpy_by_ours"] = round(medians["numpy by sorting"] / medians["ours"], 2)
    print(json.dumps(figures, indent=2))
    save_results("lidar", figures, ("numba",))
    reached = figures["ms"]["ours"] <= GOAL_MS and figures["numpy_by_ours"] >= GOAL_SPEEDUP
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
