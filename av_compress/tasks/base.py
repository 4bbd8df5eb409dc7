# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The task protocol and the frames and results that pass through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from av_compress.tensors import Array, Tensors, TensorSpec


@dataclass(frozen=True)
class ImageFrame:
    """One camera image.

    Attributes:
        pixels: uint8 [height, width, 3], rows may be padded (any strides), possibly read-only.
        color: channel order of `pixels`.
        stamp_ns: acquisition time in nanoseconds since the epoch of the sensor's clock.
        frame_id: coordinate frame of the camera.
        key: where the frame comes from, unique within its source (file name, or topic and index).

    """

    pixels: npt.NDArray[np.uint8]
    color: Literal["bgr", "rgb"] = "bgr"
    stamp_ns: int = 0
    frame_id: str = ""
    key: str = ""

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True)
class Detections2D:
    """Objects found in one image, best score first.

    Attributes:
        boxes: float32 [n, 4], x1 y1 x2 y2 in pixels of the original image, inside the image.
        scores: float32 [n] in 0..1.
        labels: int32 [n], indices into the task's class names.

    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        """Count the detections."""
        return int(self.scores.shape[0])

    @staticmethod
    def empty() -> Detections2D:
        """Return a result without detections."""
        return Detections2D(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)
        )


@dataclass(frozen=True)
class Labels2D:
    """Objects that are truly in one image.

    Attributes:
        boxes: float32 [n, 4], x1 y1 x2 y2 in pixels of the original image.
        labels: int32 [n], indices into the class names of the data set they come from.
        crowd: bool [n], regions of many objects (COCO's iscrowd), neither found nor missed.

    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    crowd: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Count the objects."""
        return int(self.labels.shape[0])


@dataclass(frozen=True)
class PointCloud:
    """One sweep of a LiDAR, or several brought together.

    Attributes:
        points: float32 [n, c], the first c of x, y, z in metres, intensity, time in seconds before
            `stamp_ns` (an earlier sweep's is positive) and ring; the axes are right-handed. Values
            may be NaN or infinite: such points lie nowhere.
        stamp_ns: acquisition time in nanoseconds since the epoch of the sensor's clock.
        frame_id: coordinate frame of the points.
        key: where the cloud comes from, unique within its source.

    """

    points: npt.NDArray[np.float32]
    stamp_ns: int = 0
    frame_id: str = ""
    key: str = ""

    def __len__(self) -> int:
        """Count the points."""
        return int(self.points.shape[0])


@dataclass(frozen=True)
class Detections3D:
    """Objects found in one cloud, best score first.

    Attributes:
        boxes: float32 [n, 7], in the cloud's frame: centre x, y, z, length (along the heading),
            width and height in metres, yaw in radians in (-pi, pi], counter-clockwise about z from
            the x axis.
        scores: float32 [n] in 0..1.
        labels: int32 [n], indices into the task's class names.
        velocities: float32 [n, 2], x and y in metres a second; None where the model tells none.

    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    velocities: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Count the detections."""
        return int(self.scores.shape[0])

    @staticmethod
    def empty() -> Detections3D:
        """Return a result without detections."""
        return Detections3D(
            np.zeros((0, 7), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)
        )


@dataclass(frozen=True)
class Box:
    """A box along the axes, in the frame of the points; it holds its bounds.

    Attributes:
        lower: smallest x, y, z in metres.
        upper: largest x, y, z in metres.

    """

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]


@dataclass(frozen=True)
class Sweeps:
    """How many sweeps of a LiDAR a cloud is brought together from.

    Attributes:
        count: sweeps in all, the newest among them, at least 1.
        max_age_s: an older sweep is left out; a longer gap between two begins anew.
        ego_box: of earlier sweeps points in it are dropped where they were measured: those of the
            vehicle itself would else trail behind it.

    """

    count: int = 1
    max_age_s: float = 1.0
    ego_box: Box | None = None

    @property
    def several(self) -> bool:
        """Whether there is anything to bring together."""
        return self.count > 1


@dataclass(frozen=True)
class FrameNeeds:
    """What frames a task takes.

    Attributes:
        type: `ImageFrame` or `PointCloud`.
        columns: of a cloud's points, the first ones of x, y, z, intensity, time and ring.
        sweeps: that a cloud is brought together from.

    """

    type: type[Any]
    columns: Sequence[str] = ()
    sweeps: Sweeps = field(default_factory=Sweeps)

    @property
    def sweep_columns(self) -> Sequence[str]:
        """The columns that a single sweep brings: of several, the time is told by their ages."""
        return self.columns[:TIME_COLUMN] if self.sweeps.several else self.columns

    @property
    def noun(self) -> str:
        """What people call one of them."""
        return FRAME_NOUNS[self.type]


# Of a cloud's points: behind x, y, z and intensity.
TIME_COLUMN = 4

FRAME_NOUNS: Mapping[type[Any], str] = {ImageFrame: "image", PointCloud: "point cloud"}
IMAGES = FrameNeeds(ImageFrame)


@dataclass(frozen=True)
class Visibility:
    """How well a camera beside the LiDAR sees objects; KITTI grades their difficulty by it.

    Attributes:
        occlusion: int32 [n], 0 fully visible, 1 partly, 2 largely occluded, 3 unknown.
        truncation: float32 [n], the share that lies outside of the image, 0..1.
        heights: float32 [n], height in the image in pixels.

    """

    occlusion: npt.NDArray[np.int32]
    truncation: npt.NDArray[np.float32]
    heights: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Labels3D:
    """Objects that are truly in one cloud.

    Attributes:
        boxes: float32 [n, 7], as in `Detections3D`.
        labels: int32 [n], indices into the class names of the data set they come from.
        ignored: bool [n], neither found nor missed (too far, too few points, other kinds).
        velocities: float32 [n, 2], x and y in metres a second, NaN where unknown; None where the
            data set tells none.
        visibility: of each object; None where the data set tells none.

    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    ignored: npt.NDArray[np.bool_]
    velocities: npt.NDArray[np.float32] | None = None
    visibility: Visibility | None = None

    def __len__(self) -> int:
        """Count the objects."""
        return int(self.labels.shape[0])


@dataclass(frozen=True)
class Prepared:
    """What preprocess hands over: tensors for the engine, context for postprocess.

    Attributes:
        tensors: input name -> array, exactly as the engine's input specs ask.
        context: what postprocess needs of the frame (scale, padding, size); opaque to others.

    """

    tensors: Tensors
    context: Any = field(repr=False)


class RawFrame(Protocol):
    """A frame as its message holds it: what decoding it costs is not paid yet.

    Attributes:
        stamp_ns: as in the frame.
        frame_id: as in the frame.
        key: as in the frame.

    """

    @property
    def stamp_ns(self) -> int: ...
    @property
    def frame_id(self) -> str: ...
    @property
    def key(self) -> str: ...

    def decode(self) -> Any:
        """Return the frame.

        Raises:
            FrameError: it holds none.

        """
        ...


def decoded(frame: Any) -> Any:
    """Return a frame as tasks take it, whether it comes raw or not."""
    return frame.decode() if hasattr(frame, "decode") else frame


FrameT = TypeVar("FrameT", contravariant=True)
ResultT = TypeVar("ResultT", covariant=True)


class Task(Protocol, Generic[FrameT, ResultT]):
    """What a model means. Stateless: one object serves calibrator, gate, replay and node.

    Attributes:
        kind: the task's name in recipes and manifests, e.g. `camera_detection`.
        class_names: label index -> name.
        frame_needs: what frames it takes.
        result_type: what it yields: `Detections2D` or `Detections3D`.

    """

    kind: str
    class_names: Sequence[str]
    result_type: type[Any]

    @property
    def frame_needs(self) -> FrameNeeds:
        """See above."""
        ...

    def config(self) -> dict[str, Any]:
        """Return the whole configuration as JSON; `make_task(config)` gives an equal task."""
        ...

    def preprocess_config(self) -> dict[str, Any]:
        """Return what of the configuration decides the input tensors, as JSON.

        Tasks that agree in it make the same tensors of the same frame.
        """
        ...

    def for_measuring(self) -> Task[FrameT, ResultT]:
        """Return this task as accuracy is measured with it.

        A serving threshold would cut off the curve that average precision is the area of.
        """
        ...

    def check_model(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        """Check that a model's border fits this task.

        Raises:
            ModelError: a tensor is missing or has another shape or dtype; all are named.

        """
        ...

    def preprocess(self, frame: FrameT, out: Tensors | None = None) -> Prepared:
        """Turn a frame into input tensors.

        Args:
            frame: as it came.
            out: input name -> array to write into, such as a frame's place in a batch; by
                default arrays are made.

        Raises:
            FrameError: the frame cannot be used (zero size, wrong dtype).

        """
        ...

    def postprocess(self, outputs: Tensors, context: Any) -> ResultT:
        """Turn output tensors into a result in the frame's own coordinates.

        Args:
            outputs: output name -> array as the engine returned it (float32 or float16).
            context: `Prepared.context` of the same frame.

        """
        ...


__all__ = ["Array", "Detections2D", "ImageFrame", "Labels2D", "Prepared", "Task"]
