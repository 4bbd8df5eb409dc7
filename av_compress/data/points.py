# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds out of messages: sensor_msgs/PointCloud2 in, columns of float32 out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from av_compress.data.buffers import bytes_of
from av_compress.data.images import NS_PER_S, stamp_of
from av_compress.errors import ConfigError, FrameError
from av_compress.tasks.base import PointCloud

Points = npt.NDArray[np.float32]

CHANNELS = ("x", "y", "z", "intensity", "time", "ring")
_PLACE = 3

# Datatype of sensor_msgs/PointField -> numpy type, without its byte order.
_TYPES: Mapping[int, str] = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2"},
    **{5: "i4", 6: "u4", 7: "f4", 8: "f8"},
}
_DATATYPES = {name: number for number, name in _TYPES.items()}

_UNITS_NS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
# A point is no farther than this from its message's stamp: another clock or unit shows at once.
_MOST_APART_S = 60.0


@dataclass(frozen=True)
class PointField:
    """A sensor_msgs/PointField: its attributes are those of ROS's."""

    name: str
    offset: int
    datatype: int
    count: int = 1


@dataclass(frozen=True)
class PointOptions:
    """Which fields of a message become which columns of a cloud.

    Attributes:
        channels: how many of x, y, z, intensity, time and ring, in this order.
        intensity: names of the field that the intensity may be in; the first that is there counts.
            Drivers also call it `i` or `reflectivity`.
        time: likewise.
        ring: likewise.
        time_unit: of the time; None: seconds where it is a float, nanoseconds where an integer.
        clock: whether times count from the message's stamp or from the epoch.
        zeros: channels after z that are zeros where the message has no such field.
        time_keys: what users set `time_unit` and `clock` by; errors say so.

    """

    channels: int = 4
    intensity: Sequence[str] = ("intensity",)
    time: Sequence[str] = ("time", "t", "timestamp", "time_stamp")
    ring: Sequence[str] = ("ring",)
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    clock: Literal["stamp", "epoch"] = "stamp"
    zeros: Sequence[str] = ()
    time_keys: str = "time_unit or clock"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: a value is not allowed.

        """
        if not _PLACE <= self.channels <= len(CHANNELS):
            raise ConfigError(f"channels is {self.channels}; 3 to {len(CHANNELS)} are allowed")
        if self.time_unit not in (None, *_UNITS_NS):
            raise ConfigError(f"time_unit is {self.time_unit!r}; allowed: {', '.join(_UNITS_NS)}")
        if self.clock not in ("stamp", "epoch"):
            raise ConfigError(f"clock is {self.clock!r}; allowed: stamp, epoch")
        if foreign := set(self.zeros) - set(CHANNELS[_PLACE:]):
            raise ConfigError(
                f"zeros names {', '.join(sorted(foreign))}; "
                f"allowed: {', '.join(CHANNELS[_PLACE:])}"
            )
        for channel in CHANNELS[_PLACE : self.channels]:
            if not self.names(channel) and channel not in self.zeros:
                raise ConfigError(f"no field is named for {channel}, nor is it among the zeros")

    def names(self, channel: str) -> Sequence[str]:
        """Return the names of the field that a channel may be in."""
        return (channel,) if channel in CHANNELS[:_PLACE] else getattr(self, channel)

    def first_names(self) -> tuple[str, ...]:
        """Return the fields of a message that has what is read, each once; x, y and z lead."""
        named = (self.names(channel) for channel in CHANNELS[: self.channels])
        return tuple(dict.fromkeys(names[0] for names in named if names))


@dataclass(frozen=True)
class _Layout:
    """How a cloud's points lie in memory."""

    shape: tuple[int, int]
    strides: tuple[int, int]
    data: npt.NDArray[np.uint8]

    def view(self, kind: str, offset: int) -> npt.NDArray[Any]:
        """Return one element of every point, [rows, columns]; not a copy."""
        seen: npt.NDArray[Any] = np.ndarray(self.shape, kind, self.data.data, offset, self.strides)
        return seen


@dataclass(frozen=True)
class _Source:
    """Where a column comes from: the field's name, numpy type with byte order, and offset."""

    name: str
    kind: str
    offset: int


def cloud_from_message(
    message: Any, options: PointOptions | None = None, key: str = ""
) -> PointCloud:
    """Make a cloud of a sensor_msgs/PointCloud2 of rclpy or of a bag.

    An organised cloud's rows are put one behind the other. A cloud without points is one, whatever
    its fields are.

    Args:
        message: the cloud. Its data is copied.
        options: which fields become which columns.
        key: the cloud's key.

    Raises:
        FrameError: a field that is needed is missing, there twice or lies outside of a point, or
            the sizes and the amount of data do not make a cloud, or its times are not of the clock
            or unit.

    """
    options = options or PointOptions()
    if not hasattr(message, "point_step"):
        raise FrameError(
            f"{type(message).__name__} is not a point cloud; allowed: sensor_msgs/PointCloud2"
        )
    stamp_ns = stamp_of(message.header)
    if message.height * message.width == 0:
        _check_empty(message)
        points = np.zeros((0, options.channels), np.float32)
    else:
        points = _points(_layout(message), _sources(message, options), options, stamp_ns)
    return PointCloud(points, stamp_ns, str(message.header.frame_id), key)


def _check_empty(message: Any) -> None:
    """Refuse points that nothing counts: served as none, they would make a vehicle blind."""
    held = bytes_of(message.data, "point cloud").size
    if held:
        raise FrameError(
            f"point cloud of {message.width} x {message.height} points has {held} bytes of data; "
            "a single row of points has a height of 1"
        )


def _layout(message: Any) -> _Layout:
    height, width, step = int(message.height), int(message.width), int(message.point_step)
    # A single row's length is what its points take: some drivers leave row_step at 0.
    row_step = int(message.row_step) if height > 1 else width * step
    size = f"point cloud of {width} x {height} points of {step} bytes"
    if row_step < width * step:
        raise FrameError(f"{size} has rows of {row_step} bytes; {width * step} are needed")
    # The last row needs no padding.
    wanted = (height - 1) * row_step + width * step
    data = bytes_of(message.data, "point cloud")
    if data.size < wanted:
        raise FrameError(f"{size} is truncated: {wanted} bytes are needed, it has {data.size}")
    return _Layout((height, width), (row_step, step), data)


def _sources(message: Any, options: PointOptions) -> dict[str, _Source]:
    """Find the field of every channel, but for those that are to be zeros."""
    order = ">" if message.is_bigendian else "<"
    fields = list(message.fields)
    chosen: dict[str, _Source] = {}
    missing: list[str] = []
    for channel in CHANNELS[: options.channels]:
        names = options.names(channel)
        field = next((f for name in names for f in fields if f.name == name), None)
        if field is not None:
            if sum(one.name == field.name for one in fields) > 1:
                raise FrameError(f"point cloud has several fields {field.name}; wanted is one")
            chosen[channel] = _source(field, order, int(message.point_step))
        elif channel not in options.zeros:
            missing.append(" or ".join(names))
    if missing:
        found = ", ".join(field.name for field in fields) or "none"
        raise FrameError(f"point cloud lacks the fields {', '.join(missing)}; it has {found}")
    return chosen


def _source(field: PointField, order: str, point_step: int) -> _Source:
    kind = _TYPES.get(field.datatype)
    if kind is None:
        raise FrameError(
            f"field {field.name} of the point cloud is of datatype {field.datatype}; "
            f"allowed: {min(_TYPES)} to {max(_TYPES)}"
        )
    # As in PCL: drivers that write 0 mean 1.
    if field.count > 1:
        raise FrameError(f"field {field.name} of the point cloud is {field.count} values, not one")
    if field.offset + np.dtype(kind).itemsize > point_step:
        raise FrameError(
            f"field {field.name} of the point cloud ends at byte "
            f"{field.offset + np.dtype(kind).itemsize} of a point of {point_step}"
        )
    return _Source(field.name, order + kind, int(field.offset))


def _points(
    layout: _Layout, sources: dict[str, _Source], options: PointOptions, stamp_ns: int
) -> Points:
    # As float32, the seconds since the epoch would be minutes apart.
    time = sources.pop("time", None)
    points = _columns(layout, [sources.get(name) for name in CHANNELS[: options.channels]])
    if time is not None:
        ages = _ages(layout.view(time.kind, time.offset), time, options, stamp_ns)
        points[:, CHANNELS.index("time")] = ages.reshape(-1)
    return points


def _ages(
    times: npt.NDArray[Any], source: _Source, options: PointOptions, stamp_ns: int
) -> npt.NDArray[np.float64]:
    """Return how long before the stamp points were measured, in seconds; see `PointCloud`."""
    unit = options.time_unit or ("s" if times.dtype.kind == "f" else "ns")
    start_ns = stamp_ns if options.clock == "epoch" else 0
    with np.errstate(over="ignore"):
        ages: npt.NDArray[np.float64] = (start_ns - times * _UNITS_NS[unit]) / NS_PER_S
    # A point without a time spoils no other.
    farthest = float(np.max(np.abs(ages), where=np.isfinite(ages), initial=0.0))
    if farthest > _MOST_APART_S:
        raise FrameError(
            f"field {source.name} of the point cloud, read as {unit} since the {options.clock}, "
            f"lies {farthest:.6g} s from the stamp; set {options.time_keys} to what it is"
        )
    return ages


def _columns(layout: _Layout, sources: Sequence[_Source | None]) -> Points:
    """Copy the columns; float32 values that lie one behind the other go as one piece."""
    rows, width = layout.shape
    out = np.zeros((rows, width, len(sources)), np.float32)
    column = 0
    with np.errstate(over="ignore", invalid="ignore"):
        while column < len(sources):
            run = _run(sources[column:])
            source = sources[column]
            if source is not None and run > 1:
                piece = f"V{4 * run}"
                place = np.ndarray((rows, width), piece, out.data, 4 * column, out.strides[:2])
                place[...] = layout.view(piece, source.offset)
            elif source is not None:
                out[..., column] = layout.view(source.kind, source.offset)
            column += run
    return out.reshape(rows * width, len(sources))


def _run(sources: Sequence[_Source | None]) -> int:
    """Count the sources, from the first on, that lie as their columns do."""
    first, count = sources[0], 0
    for source in sources:
        if first is None or source is None or np.dtype(source.kind) != np.float32:
            break
        if source.offset != first.offset + 4 * count:
            break
        count += 1
    return max(1, count)


def fields_of(kind: np.dtype[np.void]) -> tuple[PointField, ...]:
    """Describe a structured numpy type, of numbers that PointField knows, as it lies in memory."""
    found = [(name, *kind.fields[name][:2]) for name in kind.names or () if kind.fields]
    return tuple(
        PointField(name, int(offset), _DATATYPES[one.str[1:]]) for name, one, offset in found
    )
