# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds and boxes in bird's eye view, for debug topics and reports.

The sensor looks up: x grows towards the top, y towards the left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from av_compress.metrics.agreement import FrameAgreement
from av_compress.report.pictures import (
    AGREED,
    EXTRA,
    MISSED,
    Color,
    Pixels,
    class_color,
    printable,
    tag,
)
from av_compress.tasks.base import Detections3D, Labels3D, PointCloud
from av_compress.tasks.boxes3d import corners

Boxes = npt.NDArray[np.floating]

_BACKGROUND: Color = (24, 20, 18)
_RING, _RING_TEXT, _SENSOR = (64, 56, 52), (150, 140, 132), (235, 235, 235)
_TRUTH: Color = (255, 255, 255)
# BGR of points from the ground up: dim blue to grey, beside which every class and what is pale
# stand out.
_LOW_POINT, _HIGH_POINT = (105, 78, 58), (168, 160, 148)
# Heights in metres between which points change colour, from the ground, that most points are near.
_LOWEST_M, _HIGHEST_M = -0.2, 2.5
_FONT, _LETTERS, _SMALL_LETTERS = cv2.FONT_HERSHEY_SIMPLEX, 0.45, 0.4
# OpenCV draws at so many binary digits below a pixel.
_SHIFT = 4
# Views that fit a cloud: farther points and boxes are left out, at least this much is shown. The
# few points beyond 60 m would make cars of a few pixels.
_FARTHEST_POINT_M, _FARTHEST_BOX_M, _LEAST_M = 60.0, 100.0, 20.0
_LONGEST = 960


@dataclass(frozen=True)
class View:
    """The ground that a picture shows.

    Attributes:
        ahead: metres of x, seen from the sensor, up to the top edge.
        behind: metres down to the bottom edge.
        left: metres of y to the left edge.
        right: metres to the right edge.
        scale: pixels a metre.

    """

    ahead: float
    behind: float
    left: float
    right: float
    scale: float

    @staticmethod
    def of_range(lower: Sequence[float], upper: Sequence[float], longest: int = _LONGEST) -> View:
        """Show x and y between two corners; the longer side takes `longest` pixels."""
        (x0, y0), (x1, y1) = lower[:2], upper[:2]
        return View(x1, -x0, y1, -y0, longest / max(x1 - x0, y1 - y0))

    @staticmethod
    def around(cloud: PointCloud, boxes: Sequence[Boxes] = (), longest: int = _LONGEST) -> View:
        """Show the sensor, nearly all points within 60 m, and all boxes within 100 m."""
        points = cloud.points[np.isfinite(cloud.points[:, :2]).all(axis=1), :2]
        places = [np.zeros((1, 2))]
        if len(points):
            most = np.percentile(points, (1, 99), axis=0)
            places.append(np.clip(most, -_FARTHEST_POINT_M, _FARTHEST_POINT_M))
        places += [corners(_drawable(one)).reshape(-1, 2) for one in boxes]
        every = np.clip(np.concatenate(places), -_FARTHEST_BOX_M, _FARTHEST_BOX_M)
        lower, upper = 5 * np.floor(every.min(axis=0) / 5), 5 * np.ceil(every.max(axis=0) / 5)
        missing = np.maximum(_LEAST_M - (upper - lower), 0.0) / 2
        return View.of_range((lower - missing).tolist(), (upper + missing).tolist(), longest)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = self.left + self.right, self.ahead + self.behind
        return max(1, round(width * self.scale)), max(1, round(height * self.scale))

    def pixels(self, places: Boxes) -> npt.NDArray[np.float64]:
        """Return column and row of places [..., 2] (x and y in metres), as float64 [..., 2]."""
        columns = (self.left - places[..., 1]) * self.scale
        rows = (self.ahead - places[..., 0]) * self.scale
        return np.stack([columns, rows], axis=-1).astype(np.float64)


def draw_cloud(cloud: PointCloud, view: View) -> Pixels:
    """Draw points over rings every 10 m, 5 m in a small view, 20 m in a wide one.

    The higher a point, the paler it is.

    Returns:
        uint8 [height, width, 3] BGR.

    """
    picture: Pixels = np.array(_ground(view))
    _draw_points(picture, cloud.points, view)
    _draw_sensor(picture, view)
    return picture


def annotate_cloud(
    cloud: PointCloud,
    result: Detections3D,
    class_names: Sequence[str],
    view: View | None = None,
    truth: Labels3D | None = None,
) -> Pixels:
    """Draw a cloud with boxes in the colours of their classes, their scores, and a legend.

    The thick side of a box is its front. True boxes are thin and white, ignored ones grey.

    Args:
        cloud: what was seen.
        result: what was found, in the cloud's frame.
        class_names: label index -> name.
        view: the ground to show; by default all that there is.
        truth: what is there.

    Returns:
        uint8 [height, width, 3] BGR.

    """
    known = [result.boxes] if truth is None else [result.boxes, truth.boxes]
    view = view or View.around(cloud, known)
    picture = draw_cloud(cloud, view)
    if truth is not None:
        for box, ignored in zip(truth.boxes, truth.ignored):
            _draw_box(picture, box, view, _RING_TEXT if ignored else _TRUTH)
    # Last first, so that the best stands on top.
    for index in reversed(range(len(result))):
        color = class_color(int(result.labels[index]))
        _draw_box(picture, result.boxes[index], view, color, _weight(view))
        _write_beside(picture, result.boxes[index], view, f"{result.scores[index]:.2f}", color)
    labels = sorted(set(result.labels.tolist()))
    legend = [(class_names[label], class_color(label)) for label in labels]
    _draw_legend(picture, legend + ([] if truth is None else [("truth", _TRUTH)]))
    return picture


def annotate_disagreement_3d(
    cloud: PointCloud,
    results: tuple[Detections3D, Detections3D],
    agreement: FrameAgreement,
    class_names: Sequence[str],
    view: View | None = None,
) -> tuple[Pixels, Pixels]:
    """Draw a compared cloud as the reference and as the candidate saw it.

    Boxes that both see are pale; what the candidate missed is red in the reference's picture, what
    it alone sees is orange in its own, both with class and score. Boxes that the comparison left
    out are left out.

    Args:
        cloud: what both saw.
        results: of reference and candidate.
        agreement: how the two compare.
        class_names: label index -> name.
        view: the ground to show; by default all that there is.

    Returns:
        two pictures of one size, uint8 [height, width, 3] BGR.

    """
    reference, candidate = results
    view = view or View.around(cloud, [reference.boxes, candidate.boxes])
    before = draw_cloud(cloud, view)
    after = before.copy()
    sides = (
        (before, reference, agreement.pairs[:, 0], agreement.missed, (MISSED, "missed")),
        (after, candidate, agreement.pairs[:, 1], agreement.extra, (EXTRA, "extra")),
    )
    for picture, result, agreed, alone, (color, word) in sides:
        for index in agreed[::-1]:
            _draw_box(picture, result.boxes[index], view, AGREED, _weight(view))
        for index in alone[::-1]:
            text = f"{class_names[int(result.labels[index])]} {result.scores[index]:.2f}"
            _draw_box(picture, result.boxes[index], view, color, _weight(view))
            _tag_beside(picture, result.boxes[index], view, text, color)
        _draw_legend(picture, [("seen by both", AGREED), (word, color)])
    return before, after


def _draw_points(picture: Pixels, points: npt.NDArray[np.float32], view: View) -> None:
    width, height = view.size
    x, y, z = (points[:, column] for column in range(3))
    # Written so that points that lie nowhere are outside.
    inside = (x > -view.behind) & (x < view.ahead) & (y > -view.right) & (y < view.left)
    x, y, z = (values[inside & np.isfinite(z)] for values in (x, y, z))
    if len(z) == 0:
        return
    columns = np.minimum((view.left - y) * view.scale, width - 1).astype(np.int32)
    rows = np.minimum((view.ahead - x) * view.scale, height - 1).astype(np.int32)
    height_share = (z - np.percentile(z, 20) - _LOWEST_M) / (_HIGHEST_M - _LOWEST_M)
    shades = (np.clip(height_share, 0.0, 1.0) * 255).astype(np.uint8)
    # The highest point of a pixel is written last.
    order = np.argsort(shades, kind="stable")
    pixels, ramp = (colors.reshape(-1, 3).view("V3")[:, 0] for colors in (picture, _ramp()))
    pixels[(rows * width + columns)[order]] = ramp[shades[order]]


@cache
def _ramp() -> npt.NDArray[np.uint8]:
    share = np.linspace(0.0, 1.0, 256)[:, None]
    low, high = np.array(_LOW_POINT), np.array(_HIGH_POINT)
    return np.asarray(np.rint(low + share * (high - low)), np.uint8)


@lru_cache(maxsize=8)
def _ground(view: View) -> Pixels:
    """Return what lies below the points of every cloud; not to be written to."""
    width, height = view.size
    picture = np.full((height, width, 3), _BACKGROUND, np.uint8)
    _draw_rings(picture, view)
    return picture


def _draw_rings(picture: Pixels, view: View) -> None:
    far = max(view.ahead, view.behind, view.left, view.right)
    step = 5 if far <= 15 else 10 if far <= 60 else 20
    column, row = _fixed(view.pixels(np.zeros((1, 2))))[0]
    most = math.hypot(max(view.ahead, view.behind), max(view.left, view.right))
    for metres in range(step, int(most) + step, step):
        radius = round(metres * view.scale * 2**_SHIFT)
        cv2.circle(picture, (int(column), int(row)), radius, _RING, 1, cv2.LINE_AA, shift=_SHIFT)
    for metres in range(step, int(far) + 1, step):
        for way in ((metres, 0), (-metres, 0), (0, metres), (0, -metres)):
            at = view.pixels(np.array(way, np.float64))
            place = (round(at[0]) + 3, round(at[1]) - 4)
            cv2.putText(
                picture, f"{metres} m", place, _FONT, _SMALL_LETTERS, _RING_TEXT, 1, cv2.LINE_AA
            )


def _draw_sensor(picture: Pixels, view: View) -> None:
    """Draw an arrow head that points ahead, 12 pixels long."""
    column, row = view.pixels(np.zeros(2))
    shape = np.array([[column, row - 7], [column - 5, row + 5], [column + 5, row + 5]])
    cv2.fillPoly(picture, [_fixed(shape)], _SENSOR, cv2.LINE_AA, _SHIFT)


def _weight(view: View) -> int:
    """Return how many pixels wide a box is drawn: a line where it is small."""
    return 2 if view.scale > 8 else 1


def _draw_box(
    picture: Pixels, box: npt.NDArray[np.float32], view: View, color: Color, weight: int = 1
) -> None:
    drawn = _drawable(box[None])
    if len(drawn) == 0:
        return
    # From the front's left side round to its right one.
    around = view.pixels(corners(drawn)[0])
    cv2.polylines(picture, [_fixed(around)], True, color, weight, cv2.LINE_AA, _SHIFT)
    front = around[[0, 3]]
    cv2.polylines(picture, [_fixed(front)], False, color, weight + 2, cv2.LINE_AA, _SHIFT)


def _drawable(boxes: Boxes) -> Boxes:
    """Leave out what OpenCV's whole numbers cannot hold: boxes that lie nowhere."""
    return boxes[(np.abs(boxes) < 1e4).all(axis=1)]


def _write_beside(
    picture: Pixels, box: npt.NDArray[np.float32], view: View, text: str, color: Color
) -> None:
    place = _right_of(box, view)
    if place is not None:
        (width, height), _ = cv2.getTextSize(text, _FONT, _SMALL_LETTERS, 1)
        # Over the box rather than cut off by the edge.
        left = min(place[0], view.size[0] - width - 1)
        foot = min(max(place[1], height + 1), view.size[1] - 2)
        cv2.putText(picture, text, (left, foot), _FONT, _SMALL_LETTERS, color, 1, cv2.LINE_AA)


def _tag_beside(
    picture: Pixels, box: npt.NDArray[np.float32], view: View, text: str, color: Color
) -> None:
    place = _right_of(box, view)
    if place is not None:
        tag(picture, text, place, color, 0.9)


def _right_of(box: npt.NDArray[np.float32], view: View) -> tuple[int, int] | None:
    """Return where to write beside a box; None where it is not in the picture."""
    drawn = _drawable(box[None])
    if len(drawn) == 0:
        return None
    around = view.pixels(corners(drawn)[0])
    width, height = view.size
    center = around.mean(axis=0)
    if not ((center >= 0) & (center < (width, height))).all():
        return None
    return round(float(around[:, 0].max())) + 4, round(float(center[1])) + 4


def _draw_legend(picture: Pixels, entries: Sequence[tuple[str, Color]]) -> None:
    """Write names beside a patch of their colours, from the upper left corner down."""
    names = [printable(name) for name, _ in entries]
    widths = [cv2.getTextSize(name, _FONT, _LETTERS, 1)[0][0] for name in names]
    foot = (34 + max(widths, default=0), 8 + 18 * len(entries))
    if entries:
        cv2.rectangle(picture, (0, 0), foot, _BACKGROUND, -1)
    for number, (name, (_, color)) in enumerate(zip(names, entries)):
        top = 8 + 18 * number
        cv2.rectangle(picture, (8, top), (20, top + 12), color, -1)
        place = (27, top + 11)
        cv2.putText(picture, name, place, _FONT, _LETTERS, _SENSOR, 1, cv2.LINE_AA)


def _fixed(places: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Return pixels as OpenCV takes them with fractions."""
    return np.asarray(np.rint(places * 2**_SHIFT), np.int32)
