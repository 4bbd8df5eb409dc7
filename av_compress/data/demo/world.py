# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A street with traffic, as boxes that move; the same seed always gives the same street.

Frame `map`: x along the street, y to the left, z up, metres; the road's surface is z = 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

CLASSES = ("car", "pedestrian", "cyclist", "traffic_light")

LANE = 3.5
ROAD_HALF_WIDTH = 6.0
SIDEWALK = 3.0
STREET_LENGTH = 420.0
EGO_Y = -LANE / 2

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Part:
    """A box of an object's shape, in the object's own frame (origin on the ground, x forward).

    Attributes:
        center: x, y, z in metres.
        size: length, width, height in metres.
        color: BGR in daylight.

    """

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    color: Color


@dataclass(frozen=True)
class Thing:
    """Something on the street.

    Attributes:
        kind: one of `CLASSES`, or `building`, `tree`, `pole`.
        x: position of its origin in map.
        y: likewise.
        z: height of its origin over the road.
        yaw: heading in radians, 0 along the street.
        speed: along its heading, metres a second.
        parts: its shape.

    """

    kind: str
    x: float
    y: float
    z: float
    yaw: float
    speed: float
    parts: tuple[Part, ...]

    def at(self, seconds: float) -> Thing:
        """Return where it is after `seconds`."""
        way = self.speed * seconds
        return replace(
            self,
            x=self.x + way * float(np.cos(self.yaw)),
            y=self.y + way * float(np.sin(self.yaw)),
        )

    def extent(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the lowest and highest corner of its shape, [3] each, in its own frame."""
        centers = np.array([part.center for part in self.parts])
        halves = np.array([part.size for part in self.parts]) / 2
        return (centers - halves).min(axis=0), (centers + halves).max(axis=0)


@dataclass(frozen=True)
class Light:
    """The light of a drive.

    Attributes:
        brightness: factor on all colours.
        warmth: -1 (blue) to 1 (yellow).
        haze: metres after which two thirds of a colour are haze.
        sun: direction towards the sun, [3], of length 1.

    """

    brightness: float
    warmth: float
    haze: float
    sun: tuple[float, float, float]


@dataclass(frozen=True)
class World:
    """A street.

    Attributes:
        seed: what it was made from.
        things: everything on it at time 0.
        light: how it is lit.
        ego_speed: of the car with the camera, metres a second.

    """

    seed: int
    things: tuple[Thing, ...]
    light: Light
    ego_speed: float

    def ego_x(self, seconds: float) -> float:
        """Return where the car with the camera is along the street."""
        return self.ego_speed * seconds

    def at(self, seconds: float) -> tuple[Thing, ...]:
        """Return everything where it is after `seconds`."""
        return tuple(thing.at(seconds) for thing in self.things)


def make_world(seed: int) -> World:
    """Make the street of a seed."""
    rng = np.random.default_rng(seed)
    things = [
        *_buildings(rng),
        *_trees(rng),
        *_parked(rng),
        *_traffic(rng),
        *_pedestrians(rng),
        *_cyclists(rng),
        *_lights(rng),
    ]
    azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 1.2)
    sun = np.array(
        [np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]
    )
    light = Light(
        brightness=float(rng.uniform(0.65, 1.1)),
        warmth=float(rng.uniform(-0.6, 0.8)),
        haze=float(rng.uniform(120, 400)),
        sun=(float(sun[0]), float(sun[1]), float(sun[2])),
    )
    return World(seed, tuple(things), light, float(rng.uniform(7.0, 11.0)))


def _places(rng: np.random.Generator, first: float, low: float, high: float) -> Iterator[float]:
    """Yield places along the street, `low` to `high` metres apart."""
    x = first + float(rng.uniform(0, high))
    while x < STREET_LENGTH:
        yield x
        x += float(rng.uniform(low, high))


def _buildings(rng: np.random.Generator) -> Iterator[Thing]:
    for side in (-1, 1):
        for x in _places(rng, -20, 14, 26):
            length, depth, height = rng.uniform(9, 14), rng.uniform(8, 12), rng.uniform(6, 18)
            y = side * (ROAD_HALF_WIDTH + SIDEWALK + depth / 2 + rng.uniform(0.5, 4))
            wall = _shade(
                rng, [(120, 140, 170), (150, 160, 165), (110, 125, 190), (170, 175, 180)]
            )
            body = Part((0, 0, height / 2), (length, depth, height), wall)
            parts = [body, *_windows(rng, length, depth, height, -side)]
            yield Thing("building", x, y, 0, 0, 0, tuple(parts))


def _windows(
    rng: np.random.Generator, length: float, depth: float, height: float, face: int
) -> Iterator[Part]:
    glass = _shade(rng, [(90, 70, 55), (120, 105, 85)])
    for floor in range(1, int(height // 3)):
        for column in np.arange(-length / 2 + 1.5, length / 2 - 1, 2.4):
            yield Part((float(column), face * depth / 2, 3.0 * floor), (1.2, 0.06, 1.5), glass)


def _trees(rng: np.random.Generator) -> Iterator[Thing]:
    for side in (-1, 1):
        for x in _places(rng, 5, 12, 30):
            y = side * (ROAD_HALF_WIDTH + rng.uniform(0.6, 1.2))
            green = _shade(rng, [(50, 110, 60), (40, 130, 80), (60, 100, 90)])
            height, crown = rng.uniform(2.2, 3.0), rng.uniform(1.6, 2.6)
            trunk = Part((0, 0, height / 2), (0.25, 0.25, height), (50, 70, 90))
            leaves = Part((0, 0, height + crown / 2 - 0.2), (crown, crown, crown), green)
            top = Part((0, 0, height + crown), (crown * 0.6, crown * 0.6, crown * 0.5), green)
            yield Thing("tree", x, float(y), 0, 0, 0, (trunk, leaves, top))


def _parked(rng: np.random.Generator) -> Iterator[Thing]:
    for side in (-1, 1):
        for x in _places(rng, 12, 8, 28):
            yaw = 0.0 if side < 0 else np.pi
            yield _car(rng, x, side * (ROAD_HALF_WIDTH - 1.1), yaw + rng.normal(0, 0.03), 0.0)


def _traffic(rng: np.random.Generator) -> Iterator[Thing]:
    for x in _places(rng, 14, 22, 55):
        yield _car(rng, x, EGO_Y + rng.normal(0, 0.2), 0.0, float(rng.uniform(7.5, 12)))
    for x in _places(rng, 20, 18, 45):
        yield _car(rng, x, LANE / 2 + rng.normal(0, 0.2), np.pi, float(rng.uniform(6, 11)))


def _car(rng: np.random.Generator, x: float, y: float, yaw: float, speed: float) -> Thing:
    length, width = rng.uniform(3.9, 4.8), rng.uniform(1.7, 1.9)
    paint = _shade(
        rng,
        [
            (40, 40, 180),
            (180, 90, 40),
            (200, 200, 205),
            (60, 60, 60),
            (50, 140, 60),
            (30, 160, 200),
        ],
    )
    glass, tyre, dark = (70, 60, 50), (25, 25, 25), (45, 45, 45)
    tall = rng.uniform(0.5, 0.75)
    front, back = length / 2, -length / 2
    parts = [
        Part((0, 0, 0.62), (length, width, 0.66), paint),
        Part((-0.25, 0, 0.95 + tall / 2), (length * 0.52, width * 0.88, tall), glass),
        Part((-0.25, 0, 0.97 + tall), (length * 0.46, width * 0.84, 0.06), paint),
        Part((front, 0, 0.42), (0.06, width * 0.9, 0.2), dark),
        Part((back, 0, 0.42), (0.06, width * 0.9, 0.2), dark),
    ]
    for side in (-1, 1):
        parts.append(Part((back, side * width * 0.38, 0.72), (0.05, 0.3, 0.16), (40, 40, 220)))
        parts.append(Part((front, side * width * 0.36, 0.66), (0.05, 0.34, 0.16), (225, 245, 250)))
        for end in (-1, 1):
            wheel = (end * length * 0.31, side * (width / 2 - 0.06), 0.32)
            parts.append(Part(wheel, (0.64, 0.2, 0.64), tyre))
    return Thing("car", x, float(y), 0, float(yaw), speed, tuple(parts))


def _person(rng: np.random.Generator, height: float, seated: bool = False) -> list[Part]:
    coat = _shade(
        rng, [(60, 60, 190), (170, 80, 60), (60, 150, 190), (70, 160, 70), (190, 190, 190)]
    )
    trousers = _shade(rng, [(90, 60, 40), (50, 50, 55), (110, 110, 100)])
    skin, legs = (140, 170, 215), height * (0.3 if seated else 0.46)
    torso = height * 0.36
    parts = [
        Part((0, 0, legs + torso / 2), (0.26, 0.44, torso), coat),
        Part((0, 0, legs + torso + 0.14), (0.22, 0.2, 0.26), skin),
    ]
    for side in (-1, 1):
        stride = 0.0 if seated else float(rng.uniform(-0.16, 0.16)) * side
        parts.append(Part((stride, side * 0.11, legs / 2), (0.17, 0.16, legs), trousers))
        parts.append(Part((0, side * 0.28, legs + torso * 0.55), (0.13, 0.11, torso * 0.9), coat))
    return parts


def _pedestrians(rng: np.random.Generator) -> Iterator[Thing]:
    for side in (-1, 1):
        for x in _places(rng, 8, 6, 22):
            y = side * (ROAD_HALF_WIDTH + rng.uniform(0.6, SIDEWALK - 0.4))
            yaw = float(rng.choice([0.0, np.pi])) + rng.normal(0, 0.15)
            parts = _person(rng, float(rng.uniform(1.45, 1.9)))
            yield Thing(
                "pedestrian", x, float(y), 0, yaw, float(rng.uniform(0, 1.6)), tuple(parts)
            )


def _cyclists(rng: np.random.Generator) -> Iterator[Thing]:
    for side in (-1, 1):
        for x in _places(rng, 16, 16, 45):
            yaw = 0.0 if side < 0 else np.pi
            y = side * (ROAD_HALF_WIDTH - rng.uniform(2.2, 2.8))
            frame = _shade(rng, [(40, 40, 200), (200, 120, 30), (40, 40, 40), (60, 180, 200)])
            rider = [
                replace(part, center=(part.center[0], part.center[1], part.center[2] + 0.45))
                for part in _person(rng, float(rng.uniform(1.5, 1.75)), seated=True)
            ]
            bicycle = [
                Part((0.52, 0, 0.34), (0.66, 0.06, 0.66), (30, 30, 30)),
                Part((-0.52, 0, 0.34), (0.66, 0.06, 0.66), (30, 30, 30)),
                Part((0, 0, 0.6), (1.0, 0.07, 0.1), frame),
                Part((0.42, 0, 0.95), (0.08, 0.5, 0.06), (60, 60, 60)),
            ]
            speed = float(rng.uniform(3, 6))
            yield Thing("cyclist", x, float(y), 0, yaw, speed, tuple(bicycle + rider))


def _lights(rng: np.random.Generator) -> Iterator[Thing]:
    for x in _places(rng, 25, 45, 80):
        for side in (-1, 1):
            y, height = side * (ROAD_HALF_WIDTH + 0.5), float(rng.uniform(2.9, 3.6))
            pole = Part((0, 0, height / 2), (0.12, 0.12, height), (90, 90, 90))
            yield Thing("pole", x, y, 0, 0, 0, (pole,))
            on = int(rng.integers(3))
            lamps = ((50, 50, 240), (40, 190, 245), (90, 230, 70))
            parts = [Part((0, 0, 0.48), (0.26, 0.36, 0.96), (35, 40, 35))]
            for lamp, color in enumerate(lamps):
                lit = color if lamp == on else tuple(c // 4 for c in color)
                face = (-0.14, 0.0, 0.8 - 0.32 * lamp)
                parts.append(Part(face, (0.04, 0.24, 0.24), (lit[0], lit[1], lit[2])))
            yield Thing("traffic_light", x, y, height, 0, 0, tuple(parts))


def _shade(rng: np.random.Generator, colors: list[Color]) -> Color:
    base = np.array(colors[int(rng.integers(len(colors)))]) + rng.normal(0, 12, 3)
    blue, green, red = np.clip(base, 10, 245).astype(int).tolist()
    return blue, green, red
