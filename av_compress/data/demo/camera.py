# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A pinhole camera on the car, its images, and what can be seen of every object in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from av_compress.data.demo.world import (
    CLASSES,
    EGO_Y,
    ROAD_HALF_WIDTH,
    SIDEWALK,
    STREET_LENGTH,
    Light,
    Part,
    Thing,
    World,
)
from av_compress.tasks.base import Labels2D

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

_NEAR = 0.5
_FAR = 130.0
# Sub-pixel bits of OpenCV's polygons.
_SHIFT = 4
# The corners of a box's faces, counter-clockwise from outside, as indices into its 8 corners
# (bit 0: x, bit 1: y, bit 2: z), with the outward normals.
_FACES = np.array([(1, 3, 7, 5), (0, 4, 6, 2), (2, 6, 7, 3), (0, 1, 5, 4), (4, 5, 7, 6)])
_NORMALS = np.array([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1)], np.float64)
_HAZE = np.array((215.0, 205.0, 195.0))
_CORNERS = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)], np.float64) - 0.5


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the street.

    Attributes:
        width: pixels.
        height: pixels.
        focal: focal length in pixels.
        mounted: height over the road in metres.

    """

    width: int = 640
    height: int = 384
    focal: float = 460.0
    mounted: float = 1.55

    def project(self, points: Floats) -> Floats:
        """Project points [n, 3] of the camera frame (x forward, y left, z up) to pixels [n, 2]."""
        scale = self.focal / points[:, :1]
        center = np.array([self.width / 2, self.height * 0.45])
        return np.asarray(center - points[:, 1:3] * scale)


@dataclass(frozen=True)
class Visibility:
    """What is visible of an object that must be labelled.

    Attributes:
        min_height: of its visible box, pixels.
        min_share: of its own pixels that nothing hides.

    """

    min_height: int = 16
    min_share: float = 0.4


def render(world: World, seconds: float, camera: Camera) -> tuple[Pixels, Labels2D]:
    """Render the camera's image at a time, BGR [height, width, 3], and label what is visible."""
    rng = np.random.default_rng((world.seed, round(seconds * 1000)))
    eye = np.array([world.ego_x(seconds), EGO_Y, camera.mounted])
    image = _ground_and_sky(camera, eye, world.light)
    owner = np.full(image.shape[:2], -1, np.int16)
    things = [t for t in world.at(seconds) if 0 < t.x - eye[0] + 12 < _FAR]
    things.sort(key=lambda t: -_distance(t, eye))
    drawn: list[_Drawn] = []
    _draw_shadows(image, things, camera, eye)
    for number, thing in enumerate(things):
        drawn.append(_draw(image, owner, number, thing, camera, eye, world.light))
    labels = _label(owner, things, drawn, Visibility())
    return _expose(image, world.light, rng), labels


@dataclass(frozen=True)
class _Drawn:
    """What was drawn of a thing: where in the image, and how many pixels it covered then."""

    region: tuple[slice, slice]
    pixels: int


_NOTHING = _Drawn((slice(0, 0), slice(0, 0)), 0)


def _ground_and_sky(camera: Camera, eye: Floats, light: Light) -> Pixels:
    horizon = int(camera.height * 0.45)
    image = np.empty((camera.height, camera.width, 3), np.uint8)
    mix = np.linspace(0, 1, horizon)[:, None, None]
    image[:horizon] = ((1 - mix) * (225, 170, 120) + mix * (235, 220, 205)).astype(np.uint8)
    image[horizon:] = (95, 120, 105)
    bands = (
        (-ROAD_HALF_WIDTH - SIDEWALK, ROAD_HALF_WIDTH + SIDEWALK, (150, 152, 155)),
        (-ROAD_HALF_WIDTH, ROAD_HALF_WIDTH, (88, 86, 84)),
    )
    for low, high, color in bands:
        strip = np.array([(1.2, low), (_FAR * 3, low), (_FAR * 3, high), (1.2, high)])
        _fill_ground(image, strip, camera, eye, color)
    for edge in (-ROAD_HALF_WIDTH + 2.2, ROAD_HALF_WIDTH - 2.2):
        strip = np.array(
            [(1.2, edge - 0.06), (_FAR, edge - 0.06), (_FAR, edge + 0.06), (1.2, edge + 0.06)]
        )
        _fill_ground(image, strip, camera, eye, (200, 205, 205))
    for start in np.arange(
        np.floor(eye[0] / 6) * 6, min(eye[0] + _FAR, STREET_LENGTH + _FAR), 6.0
    ):
        low, high = start - eye[0], start - eye[0] + 2.5
        if high > 1.2:
            low = max(low, 1.2)
            dash = np.array([(low, -0.08), (high, -0.08), (high, 0.08), (low, 0.08)])
            _fill_ground(image, dash, camera, eye, (210, 215, 215))
    return image


def _fill_ground(
    image: Pixels, strip: Floats, camera: Camera, eye: Floats, color: tuple[int, int, int]
) -> None:
    """Fill a polygon of the ground: x ahead of the camera, y of the map."""
    points = np.column_stack([strip[:, 0], strip[:, 1] - eye[1], np.full(len(strip), -eye[2])])
    _fill(image, camera.project(points), color)


def _draw_shadows(image: Pixels, things: Sequence[Thing], camera: Camera, eye: Floats) -> None:
    shade = np.zeros(image.shape[:2], np.uint8)
    for thing in things:
        if thing.kind in {"building", "pole", "traffic_light"}:
            continue
        low, high = thing.extent()
        corners = np.array(
            [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
        )
        ground = np.column_stack([corners * 1.08, np.zeros(4)])
        points = _to_camera(ground, thing, eye)
        if points[:, 0].min() > _NEAR:
            _fill(shade, camera.project(points), 255)
    dark = shade > 0
    image[dark] = (image[dark] * 0.62).astype(np.uint8)


def _draw(
    image: Pixels,
    owner: npt.NDArray[np.int16],
    number: int,
    thing: Thing,
    camera: Camera,
    eye: Floats,
    light: Light,
) -> _Drawn:
    """Draw a thing over what is farther away."""
    polygons = list(_visible_faces(thing, camera, eye, light))
    if not polygons:
        return _NOTHING
    points = np.concatenate([polygon for polygon, _ in polygons])
    left, top = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.ceil(points.max(axis=0)).astype(int) + 2
    right, bottom = min(right, camera.width), min(bottom, camera.height)
    if left >= right or top >= bottom:
        return _NOTHING
    labelled = thing.kind in CLASSES
    for polygon, color in polygons:
        _fill(image, polygon, color)
        if labelled:
            _fill(owner, polygon, number, antialias=False)
    if not labelled:
        # What only hides others need not be exact: its silhouette is that of its hull.
        _fill_hull(owner, points)
        return _NOTHING
    region = (slice(top, bottom), slice(left, right))
    return _Drawn(region, int((owner[region] == number).sum()))


def _visible_faces(
    thing: Thing, camera: Camera, eye: Floats, light: Light
) -> Iterator[tuple[Floats, tuple[int, int, int]]]:
    """Yield the faces turned to the camera, farthest first: pixels [n, 2] and colour."""
    corners, colors = _shape(thing.parts)
    seen = _to_camera(corners.reshape(-1, 3), thing, eye).reshape(-1, 8, 3)
    normals = _NORMALS @ _rotation(thing.yaw).T
    # [parts, faces, 4, 3]; a face is seen where its outward normal points to the camera.
    faces = seen[:, _FACES]
    turned = np.asarray(np.einsum("pfc,fc->pf", faces[:, :, 0], normals) < 0)
    turned &= (faces[..., 0] > _NEAR).any(axis=2)
    distance = np.linalg.norm(seen.mean(axis=1), axis=1)
    haze = np.exp(-distance / light.haze)[:, None, None]
    bright = (0.62 + 0.38 * np.clip(normals @ np.array(light.sun), 0, 1))[None, :, None]
    lit = (colors[:, None] * bright * haze + (1 - haze) * _HAZE).astype(np.int64)
    whole = np.asarray((faces[..., 0] > _NEAR).all(axis=2))
    pixels = camera.project(np.maximum(faces.reshape(-1, 3), [_NEAR, -np.inf, -np.inf]))
    pixels = pixels.reshape(*faces.shape[:3], 2)
    for part in np.argsort(-distance, kind="stable"):
        for face in np.flatnonzero(turned[part]):
            blue, green, red = lit[part, face].tolist()
            if whole[part, face]:
                yield pixels[part, face], (blue, green, red)
            else:
                yield camera.project(_clip_near(faces[part, face])), (blue, green, red)


@cache
def _shape(parts: tuple[Part, ...]) -> tuple[Floats, Floats]:
    """Return corners [parts, 8, 3] in the thing's own frame, and colours [parts, 3]."""
    sizes = np.array([part.size for part in parts])
    centers = np.array([part.center for part in parts])
    return _CORNERS * sizes[:, None] + centers[:, None], np.array([p.color for p in parts], float)


def _clip_near(polygon: Floats) -> Floats:
    """Cut off what lies behind the near plane (Sutherland and Hodgman, 1974)."""
    if polygon[:, 0].min() > _NEAR:
        return polygon
    kept = []
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0)):
        if start[0] > _NEAR:
            kept.append(start)
        if (start[0] > _NEAR) != (end[0] > _NEAR):
            share = (_NEAR - start[0]) / (end[0] - start[0])
            kept.append(start + share * (end - start))
    return np.array(kept).reshape(-1, 3)


def _label(
    owner: npt.NDArray[np.int16],
    things: Sequence[Thing],
    drawn: Sequence[_Drawn],
    limits: Visibility,
) -> Labels2D:
    boxes, labels = [], []
    for number, (thing, before) in enumerate(zip(things, drawn)):
        if before.pixels == 0:
            continue
        rows, columns = np.nonzero(owner[before.region] == number)
        if len(rows) < max(limits.min_share * before.pixels, 1):
            continue
        top, left = (part.start for part in before.region)
        box = (
            left + columns.min(),
            top + rows.min(),
            left + columns.max() + 1,
            top + rows.max() + 1,
        )
        if box[3] - box[1] < limits.min_height:
            continue
        boxes.append(box)
        labels.append(CLASSES.index(thing.kind))
    return Labels2D(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int32),
        np.zeros(len(labels), np.bool_),
    )


def _expose(image: Pixels, light: Light, rng: np.random.Generator) -> Pixels:
    """Apply brightness, colour of the light, and the sensor's noise."""
    tint = np.array([1 - 0.12 * light.warmth, 1.0, 1 + 0.12 * light.warmth]) * light.brightness
    noise = rng.standard_normal(image.shape[:2], np.float32) * np.float32(4.0)
    values = image.astype(np.float32) * tint.astype(np.float32) + noise[..., None]
    blurred = cv2.GaussianBlur(np.clip(values, 0, 255).astype(np.uint8), (3, 3), 0.6)
    return np.asarray(blurred, np.uint8)


def _fill(
    image: npt.NDArray[np.integer[Any]],
    polygon: Floats,
    color: int | tuple[int, int, int],
    antialias: bool = True,
) -> None:
    # Far outside the image, OpenCV's fixed-point coordinates would overflow.
    points = np.clip(polygon, -8000, 8000)
    scaled = np.rint(points * (1 << _SHIFT)).astype(np.int32)
    values = (color,) if isinstance(color, int) else color
    kind = cv2.LINE_AA if antialias else cv2.LINE_8
    cv2.fillConvexPoly(image, scaled, values, kind, _SHIFT)


def _fill_hull(owner: npt.NDArray[np.int16], points: Floats) -> None:
    hull = cv2.convexHull(np.clip(points, -8000, 8000).astype(np.float32))
    _fill(owner, hull.reshape(-1, 2).astype(np.float64), -1, antialias=False)


def _rotation(yaw: float) -> Floats:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _to_camera(points: Floats, thing: Thing, eye: Floats) -> Floats:
    """Map points [n, 3] of a thing's own frame to the camera's."""
    return np.asarray(
        points @ _rotation(thing.yaw).T + (np.array([thing.x, thing.y, thing.z]) - eye)
    )


def _distance(thing: Thing, eye: Floats) -> float:
    return float(np.hypot(thing.x - eye[0], thing.y - eye[1]))
