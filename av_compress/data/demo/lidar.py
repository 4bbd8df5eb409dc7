# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A spinning LiDAR on the car's roof: rays cast against the street's boxes and its ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from av_compress.data.demo.world import CLASSES, EGO_Y, Thing, World
from av_compress.tasks.base import Labels3D, PointCloud

Floats = npt.NDArray[np.float64]

POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("ring", "<u2")])

# Objects that fewer points hit are neither found nor missed.
MIN_POINTS = 5

_NEAR = 1.5
_NOBODY = -1


@dataclass(frozen=True)
class Lidar:
    """A spinning LiDAR; frame: x forward, y left, z up, origin at the sensor.

    Attributes:
        rings: lasers above each other.
        columns: shots a turn.
        lowest: elevation of the lowest ring in degrees.
        highest: elevation of the highest.
        reach: metres.
        mounted: height over the road in metres.
        noise: standard deviation of the range in metres.

    """

    rings: int = 32
    columns: int = 900
    lowest: float = -22.0
    highest: float = 4.0
    reach: float = 80.0
    mounted: float = 1.9
    noise: float = 0.015

    def directions(self) -> tuple[Floats, npt.NDArray[np.uint16]]:
        """Return unit directions [rings * columns, 3] and the ring of each."""
        elevation = np.radians(np.linspace(self.lowest, self.highest, self.rings))
        azimuth = np.linspace(np.pi, -np.pi, self.columns, endpoint=False)
        up, around = np.meshgrid(elevation, azimuth, indexing="ij")
        rays = np.stack(
            [np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)], axis=-1
        )
        ring = np.repeat(np.arange(self.rings, dtype=np.uint16), self.columns)
        return rays.reshape(-1, 3), ring


@dataclass(frozen=True)
class _Hits:
    """Where rays end: float64 distance and intensity [rays], and int32 thing [rays] by number."""

    distance: Floats
    intensity: Floats
    owner: npt.NDArray[np.int32]


def sweep(world: World, seconds: float, lidar: Lidar) -> tuple[npt.NDArray[np.void], Labels3D]:
    """Cast one turn at a time; label what was hit.

    Returns:
        the points, structured as `POINT`, whose intensity is 0..255: how light the surface is, and
        how squarely it was hit; and the objects of `world.CLASSES` with at least a point, in the
        LiDAR's frame, ignored below `MIN_POINTS`.

    """
    rng = np.random.default_rng((world.seed, round(seconds * 1000), 1))
    eye = np.array([world.ego_x(seconds), EGO_Y, lidar.mounted])
    rays, ring = lidar.directions()
    hits = _on_ground(rays, lidar)
    things = world.at(seconds)
    for number, thing in enumerate(things):
        if abs(thing.x - eye[0]) < lidar.reach + 15:
            _cast(thing, number, eye, rays, hits)
    distance = hits.distance + rng.normal(0, lidar.noise, len(rays))
    hit = (distance > _NEAR) & (distance < lidar.reach)
    points = np.empty(int(hit.sum()), POINT)
    where = rays[hit] * distance[hit, None]
    points["x"], points["y"], points["z"] = where.T
    points["intensity"] = np.clip(hits.intensity[hit] + rng.normal(0, 3, len(points)), 0, 255)
    points["ring"] = ring[hit]
    owners = hits.owner[hit]
    counts = np.bincount(owners[owners != _NOBODY], minlength=len(things))
    return points, _label(things, counts, eye)


def as_cloud(points: npt.NDArray[np.void], key: str = "") -> PointCloud:
    """Return a sweep's points as tasks take them: x, y, z and intensity."""
    columns = [points[name] for name in ("x", "y", "z", "intensity")]
    return PointCloud(np.stack(columns, axis=1).astype(np.float32), key=key)


def _on_ground(rays: Floats, lidar: Lidar) -> _Hits:
    distance = np.full(len(rays), np.inf)
    down = rays[:, 2] < -1e-6
    distance[down] = -lidar.mounted / rays[down, 2]
    return _Hits(distance, np.full(len(rays), 30.0), np.full(len(rays), _NOBODY, np.int32))


def _label(things: Sequence[Thing], counts: npt.NDArray[np.intp], eye: Floats) -> Labels3D:
    chosen = [n for n, thing in enumerate(things) if thing.kind in CLASSES and counts[n]]
    seen = [things[n] for n in chosen]
    boxes = [_box(thing, eye) for thing in seen]
    speeds = [(t.speed * np.cos(t.yaw), t.speed * np.sin(t.yaw)) for t in seen]
    return Labels3D(
        np.array(boxes, np.float32).reshape(-1, 7),
        np.array([CLASSES.index(thing.kind) for thing in seen], np.int32),
        np.asarray(counts[chosen] < MIN_POINTS, np.bool_).reshape(-1),
        np.array(speeds, np.float32).reshape(-1, 2),
    )


def _box(thing: Thing, eye: Floats) -> list[float]:
    """Return the box around a thing's parts in the LiDAR's frame; see `Labels3D.boxes`."""
    low, high = thing.extent()
    x, y, z = (low + high) / 2
    cos, sin = np.cos(thing.yaw), np.sin(thing.yaw)
    origin = np.array([thing.x, thing.y, thing.z]) - eye
    center = origin + np.array([cos * x - sin * y, sin * x + cos * y, z])
    yaw = np.pi - (np.pi - thing.yaw) % (2 * np.pi)
    return [*center.tolist(), *(high - low).tolist(), float(yaw)]


def _cast(thing: Thing, number: int, eye: Floats, rays: Floats, hits: _Hits) -> None:
    """Let rays end on a thing's parts where these are nearer than what was hit before."""
    cos, sin = np.cos(thing.yaw), np.sin(thing.yaw)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    origin = turn @ (eye - np.array([thing.x, thing.y, thing.z]))
    low, high = thing.extent()
    near = _facing(low, high, origin, rays, thing.yaw)
    if len(near) == 0:
        return
    local = rays[near] @ turn.T
    for part in thing.parts:
        center, half = np.array(part.center), np.array(part.size) / 2
        entry, axis = _slab(origin - center, local, half)
        closer = entry < hits.distance[near]
        chosen = near[closer]
        hits.distance[chosen] = entry[closer]
        square = np.abs(np.take_along_axis(local[closer], axis[closer, None], 1)[:, 0])
        hits.intensity[chosen] = np.mean(part.color) * (0.4 + 0.6 * square)
        hits.owner[chosen] = number


def _facing(
    low: Floats, high: Floats, origin: Floats, rays: Floats, yaw: float
) -> npt.NDArray[np.intp]:
    """Return the rays whose azimuth meets the circle around a whole thing."""
    to_center = (low + high)[:2] / 2 - origin[:2]
    distance, radius = np.hypot(*to_center), np.hypot(*(high - low)[:2]) / 2
    if distance <= radius:
        return np.arange(len(rays))
    toward = np.arctan2(to_center[1], to_center[0]) + yaw
    flat = rays[:, 0] * np.cos(toward) + rays[:, 1] * np.sin(toward)
    # Within the cone: the cosine of the angle to its axis is at least that of its half width.
    width = np.hypot(rays[:, 0], rays[:, 1])
    return np.flatnonzero(flat >= width * np.sqrt(1 - (radius / distance) ** 2))


def _slab(origin: Floats, rays: Floats, half: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return where rays enter a box around zero (infinity where they miss), and on which axis.

    Source: the slab method of Kay and Kajiya, Ray Tracing Complex Scenes, 1986.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        near, far = (-half - origin) / rays, (half - origin) / rays
    first, last = np.fmin(near, far), np.fmax(near, far)
    axis = first.argmax(axis=1)
    entry, leave = first.max(axis=1), last.min(axis=1)
    return np.where((entry <= leave) & (entry > 0), entry, np.inf), axis
