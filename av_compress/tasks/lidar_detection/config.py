# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The configuration of a LiDAR detector: validated JSON -> frozen dataclasses and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from av_compress.errors import ConfigError
from av_compress.tasks.base import Box
from av_compress.tasks.detection import json_values
from av_compress.tasks.lidar_detection.encoders import EncoderConfig, parse_encoder
from av_compress.tasks.lidar_detection.grid import Grid
from av_compress.tasks.lidar_detection.heads import LidarHead, parse_head
from av_compress.validation import validate

KIND = "lidar_detection"


@dataclass(frozen=True)
class SweepsConfig:
    """How many sweeps are brought together; see `tasks.base.Sweeps`."""

    count: int = 1
    max_age_s: float = 1.0


@dataclass(frozen=True)
class InputConfig:
    """How a cloud becomes the network's inputs.

    Attributes:
        lower: smallest x, y, z of the range in metres.
        upper: largest x, y, z of the range in metres; they are outside.
        voxel_size: extents of a cell along x, y, z in metres.
        encoder: what the model is told of the points.
        intensity_scale: what intensities are multiplied by.
        ego_box: points in it are dropped.
        sweeps: that a cloud is brought together from.

    """

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    voxel_size: tuple[float, float, float]
    encoder: EncoderConfig
    intensity_scale: float = 1.0
    ego_box: Box | None = None
    sweeps: SweepsConfig = field(default_factory=SweepsConfig)

    @cached_property
    def grid(self) -> Grid:
        """The range in cells."""
        return Grid(self.lower, self.upper, self.voxel_size)

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> InputConfig:
        """Make it of validated JSON values.

        Raises:
            ConfigError: the range is no whole number of cells.

        """
        box = config.get("ego_box")
        found = InputConfig(
            lower=_triple(config["lower"]),
            upper=_triple(config["upper"]),
            voxel_size=_triple(config["voxel_size"]),
            encoder=parse_encoder(config["encoder"]),
            intensity_scale=float(config.get("intensity_scale", 1.0)),
            ego_box=None if box is None else Box(_triple(box["lower"]), _triple(box["upper"])),
            sweeps=_sweeps(config.get("sweeps", {})),
        )
        try:
            found.grid  # noqa: B018
        except ConfigError as error:
            raise ConfigError(
                f"task.input.lower, task.input.upper, task.input.voxel_size: {error}"
            ) from error
        return found

    def to_config(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "encoder": self.encoder.to_config()}


@dataclass(frozen=True)
class NmsConfig:
    """Suppression of what was found twice.

    Attributes:
        type: `rotated` drops a box whose footprint overlaps a better one, `circle` one whose
            centre is near a better one's, `none` drops none.
        iou_threshold: the largest overlap that is kept, of `rotated`.
        radii: by label, in metres, of `circle`: what is nearer is dropped.
        class_aware: only boxes of one class suppress one another.
        max_detections: how many detections a cloud may have.
        max_candidates: how many boxes, best first, enter the suppression.

    """

    type: Literal["rotated", "circle", "none"] = "rotated"
    iou_threshold: float = 0.2
    radii: tuple[float, ...] = ()
    class_aware: bool = True
    max_detections: int = 300
    max_candidates: int = 1000

    @staticmethod
    def from_config(config: Mapping[str, Any], class_names: tuple[str, ...]) -> NmsConfig:
        """Make it of validated JSON values.

        Raises:
            ConfigError: the radii are not those of the classes, or are not used.

        """
        found = NmsConfig(**{**config, "radii": _radii(config.get("radii", {}), class_names)})
        if (found.type == "circle") != bool(found.radii):
            raise ConfigError(
                "task.nms.radii: a radius in metres for each class is wanted where task.nms.type "
                "is circle, and only there"
            )
        if not found.class_aware and len(set(found.radii)) > 1:
            raise ConfigError(
                "task.nms.class_aware: false is not allowed where the classes' radii differ"
            )
        return found

    def to_config(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "radii": dict(zip(class_names, self.radii))}


@dataclass(frozen=True)
class LidarDetectionConfig:
    """Everything that a LiDAR detector's meaning depends on.

    Attributes:
        class_names: label index -> name.
        input: how a cloud becomes the network's inputs.
        head: what the outputs mean.
        score_threshold: detections with a lower score are dropped.
        nms: suppression of what was found twice.

    """

    class_names: tuple[str, ...]
    input: InputConfig
    head: LidarHead
    score_threshold: float
    nms: NmsConfig

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> LidarDetectionConfig:
        """Validate JSON values and fill in the defaults.

        Raises:
            ConfigError: names key, value and what is allowed.

        """
        validate(config, f"{KIND}_task", "task configuration", root="task")
        names = tuple(config["class_names"])
        return LidarDetectionConfig(
            class_names=names,
            input=InputConfig.from_config(config["input"]),
            head=parse_head(config["head"]),
            score_threshold=float(config.get("score_threshold", 0.25)),
            nms=NmsConfig.from_config(config.get("nms", {}), names),
        )

    def to_config(self) -> dict[str, Any]:
        """Return JSON values with every default filled in; `from_config` of them is equal."""
        values = {
            "kind": KIND,
            "class_names": self.class_names,
            "input": self.input.to_config(),
            "head": self.head.to_config(),
            "score_threshold": self.score_threshold,
            "nms": self.nms.to_config(self.class_names),
        }
        found: dict[str, Any] = json_values(values)
        return found


def _triple(values: list[float]) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third


def _sweeps(config: Mapping[str, Any]) -> SweepsConfig:
    default = SweepsConfig()
    return SweepsConfig(
        int(config.get("count", default.count)),
        float(config.get("max_age_s", default.max_age_s)),
    )


def _radii(radii: Mapping[str, float], class_names: tuple[str, ...]) -> tuple[float, ...]:
    if radii and set(radii) != set(class_names):
        raise ConfigError(
            f"task.nms.radii: {', '.join(radii)} are not allowed; allowed: a radius for each of "
            f"{', '.join(class_names)}"
        )
    return tuple(float(radii[name]) for name in class_names) if radii else ()
