# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The configuration of a camera detector: validated JSON -> frozen dataclasses and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from av_compress.tasks.camera_detection.heads import HeadConfig, parse_head
from av_compress.tasks.camera_detection.names import NAMED_SETS
from av_compress.tasks.detection import json_values
from av_compress.validation import validate

KIND = "camera_detection"


@dataclass(frozen=True)
class InputConfig:
    """The network's input tensor: element = (pixel - mean) / std.

    Attributes:
        name: tensor name in the model.
        width: columns.
        height: rows.
        layout: `nchw` or `nhwc`.
        dtype: element type.
        color: order of the channels, of `mean` and of `std`.
        mean: per channel, in 0..255.
        std: per channel, in 0..255.

    """

    width: int
    height: int
    name: str = "images"
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    color: Literal["bgr", "rgb"] = "bgr"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The tensor's extents."""
        if self.layout == "nchw":
            return (1, 3, self.height, self.width)
        return (1, self.height, self.width, 3)


@dataclass(frozen=True)
class ResizeConfig:
    """How an image becomes as large as the input.

    Attributes:
        mode: `letterbox` keeps the aspect ratio, `stretch` does not.
        interpolation: OpenCV's method of that name.
        anchor: where the image lies in a letterbox.
        pad_value: value of all channels of the padding before normalisation.
        rounding: how a letterboxed size becomes whole.

    """

    mode: Literal["letterbox", "stretch"] = "letterbox"
    interpolation: Literal["linear", "area", "nearest", "cubic"] = "linear"
    anchor: Literal["center", "top_left"] = "center"
    pad_value: int = 114
    rounding: Literal["round", "truncate"] = "round"


@dataclass(frozen=True)
class NmsConfig:
    """Non-maximum suppression.

    Attributes:
        iou_threshold: a box that overlaps a better one by more is dropped; 1 keeps all.
        class_aware: only boxes of one class suppress one another.
        max_detections: how many detections an image may have.
        max_candidates: how many boxes, best first, enter the suppression.

    """

    iou_threshold: float = 0.6
    class_aware: bool = True
    max_detections: int = 300
    max_candidates: int = 3000


@dataclass(frozen=True)
class CameraDetectionConfig:
    """Everything that a camera detector's meaning depends on.

    Attributes:
        class_names: label index -> name.
        input: the network's input tensor.
        resize: how an image becomes as large as the input.
        head: what the outputs mean.
        score_threshold: detections with a lower score are dropped.
        nms: non-maximum suppression.

    """

    class_names: tuple[str, ...]
    input: InputConfig
    resize: ResizeConfig
    head: HeadConfig
    score_threshold: float
    nms: NmsConfig

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> CameraDetectionConfig:
        """Validate JSON values and fill in the defaults.

        Raises:
            ConfigError: names key, value and what is allowed.

        """
        validate(config, f"{KIND}_task", "task configuration", root="task")
        names = config["class_names"]
        return CameraDetectionConfig(
            class_names=NAMED_SETS[names] if isinstance(names, str) else tuple(names),
            input=InputConfig(**{key: _frozen(value) for key, value in config["input"].items()}),
            resize=ResizeConfig(**config.get("resize", {})),
            head=parse_head(config["head"]),
            score_threshold=float(config.get("score_threshold", 0.25)),
            nms=NmsConfig(**config.get("nms", {})),
        )

    def to_config(self) -> dict[str, Any]:
        """Return JSON values with every default filled in; `from_config` of them is equal."""
        values = {
            "kind": KIND,
            **asdict(self),
            "head": self.head.to_config(),
        }
        found: dict[str, Any] = json_values(values)
        return found


def _frozen(value: Any) -> Any:
    return tuple(map(float, value)) if isinstance(value, list) else value
