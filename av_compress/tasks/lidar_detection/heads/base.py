# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the families of heads share: the plane of the maps, candidates, groups, angles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from av_compress.errors import ConfigError
from av_compress.tasks.camera_detection.heads.base import HeadConfig
from av_compress.tasks.camera_detection.outputs import Form
from av_compress.tasks.lidar_detection.grid import Floats, Grid
from av_compress.tensors import Array

Doubles: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]
# Where a model's angle starts and which way it turns.
YawForm: TypeAlias = Literal["counter_clockwise", "clockwise", "det3d"]
ZForm: TypeAlias = Literal["center", "bottom"]


@dataclass(frozen=True)
class Plane:
    """What lies on both sides of a head: the grid that the input has, and the classes.

    Attributes:
        grid: of the input.
        rows_along: the axis that rows of the maps follow, `y` or `x`; columns follow the other.
        class_names: of the task.

    """

    grid: Grid
    rows_along: str
    class_names: tuple[str, ...]

    def cells(self, stride: int) -> tuple[int, int]:
        """Return (rows, columns) of the feature map of this stride."""
        _, along_y, along_x = (-(-extent // stride) for extent in self.grid.shape)
        return (along_y, along_x) if self.rows_along == "y" else (along_x, along_y)

    def metres(self, rows: Doubles, columns: Doubles, stride: int) -> tuple[Doubles, Doubles]:
        """Return x and y of places in a map, in cells from its corner."""
        x, y = (columns, rows) if self.rows_along == "y" else (rows, columns)
        (left, right, _), (wide, high, _) = self.grid.lower, self.grid.size
        return x * (stride * wide) + left, y * (stride * high) + right


@dataclass(frozen=True)
class Candidates:
    """Boxes over the score threshold, before suppression.

    Attributes:
        boxes: float32 [n, 7], as in `Detections3D`.
        scores: float32 [n].
        labels: int32 [n].
        velocities: float32 [n, 2] in metres a second; None where the model tells none.

    """

    boxes: Floats
    scores: Floats
    labels: npt.NDArray[np.int32]
    velocities: Floats | None = None

    def take(self, rows: Indices) -> Candidates:
        """Return these rows, in this order."""
        speeds = None if self.velocities is None else self.velocities[rows]
        return Candidates(self.boxes[rows], self.scores[rows], self.labels[rows], speeds)


@dataclass(frozen=True, kw_only=True)
class LidarHead(HeadConfig):
    """What the configurations of all families have in common.

    Attributes:
        groups: the classes of each group of outputs, by name: models with several heads have
            several; none stands for one of all classes, in order.

    """

    groups: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LidarHead:
        """Make it of validated JSON values.

        Raises:
            ConfigError: values do not go together.

        """
        options = {key: frozen(value) for key, value in config.items() if key != "type"}
        names = sorted(config.get("outputs", {}).items())
        return cls(**{**options, "outputs": tuple((role, frozen(name)) for role, name in names)})

    def group_names(self, class_names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Return the classes of each group.

        Raises:
            ConfigError: the groups do not hold each class once.

        """
        if not self.groups:
            return (tuple(class_names),)
        grouped = [name for group in self.groups for name in group]
        if sorted(grouped) != sorted(class_names):
            raise ConfigError(
                f"task.head.groups: {', '.join(grouped)} are not allowed; allowed: each of "
                f"{', '.join(class_names)} once"
            )
        return self.groups

    def check(self, class_names: Sequence[str]) -> None:
        """Hold the configuration against the task's classes.

        Raises:
            ConfigError: it names others.

        """
        self.group_names(class_names)

    def role(self, name: str, group: int) -> str:
        """Return the role of a group's output: `name[group]` where there are several groups."""
        return f"{name}[{group}]" if len(self.groups) > 1 else name


HeadT = TypeVar("HeadT", bound=LidarHead)


@dataclass(frozen=True)
class Family(Generic[HeadT]):
    """A family of heads.

    Attributes:
        config: the configuration's class; its fields are the keys of `task.head`.
        forms: the layouts of outputs that models of the family have, the most specific first.
        decode: turns outputs into candidates. It gets the configuration, the plane, the form's
            name, the outputs by role (float outputs as float32) and the score threshold. Floating
            point faults are silent there: what is not finite is dropped later.
        note: what a user may have forgotten when no form fits.

    """

    config: type[HeadT]
    forms: Callable[[HeadT, Plane], tuple[Form, ...]]
    decode: Callable[[HeadT, Plane, str, Mapping[str, Array], float], Candidates]
    note: str = ""


def frozen(value: Any) -> Any:
    """Return JSON lists as tuples."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def labels_of(names: Sequence[str], class_names: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return the labels of a group's classes, in its order."""
    return np.array([list(class_names).index(name) for name in names], np.int32)


def make_boxes(parts: Mapping[str, npt.NDArray[Any]], z_form: ZForm, yaw_form: YawForm) -> Floats:
    """Join parts to boxes in the project's own terms.

    Args:
        parts: x, y, z, length, width, height in metres and yaw in radians, each [n].
        z_form: whether `z` is that of a box's centre or bottom.
        yaw_form: what the angle is: `counter_clockwise` from the x axis; `clockwise` from it;
            `det3d`: -angle - pi/2 is counter-clockwise from it (det3d's and SECOND's boxes, and
            mmdetection3d's before 1.0).

    Returns:
        float32 [n, 7], see `Detections3D`.

    """
    z = parts["z"] + (parts["height"] / 2 if z_form == "bottom" else 0.0)
    angle = np.asarray(parts["yaw"], np.float64)
    turned = {
        "counter_clockwise": angle,
        "clockwise": -angle,
        "det3d": -angle - np.pi / 2,
    }[yaw_form]
    columns = [parts["x"], parts["y"], z, parts["length"], parts["width"], parts["height"]]
    return np.stack([*columns, normal_yaw(turned)], axis=1).astype(np.float32)


def normal_yaw(angles: Doubles) -> Floats:
    """Bring angles into (-pi, pi], as float32 has it."""
    turned = (np.pi - np.mod(np.pi - angles, 2 * np.pi)).astype(np.float32)
    half = np.float32(np.pi)
    return np.where(turned <= -half, half, turned)


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Return the candidates of several groups, all with velocities or all without."""
    speeds = [part.velocities for part in parts if part.velocities is not None]
    return Candidates(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate(speeds) if speeds else None,
    )
