# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Writing ROS 2 bags without ROS. A bag appears whole or not at all."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from av_compress.data.images import NS_PER_S
from av_compress.data.points import fields_of
from av_compress.data.ros_types import long_type, make_typestore, rosbags
from av_compress.errors import AvCompressError, UsageError
from av_compress.fileio import atomic_directory, atomic_file
from av_compress.tasks.base import ImageFrame

# The newest format whose metadata ROS 2 Humble and Iron read as well.
_BAG_VERSION = 8
_FOLDER_MARK = "metadata.yaml"


class BagWriter:
    """Writes a bag; use it as a context manager.

    `OUT.mcap` and `OUT.db3` become a single file, any other path a bag folder with an mcap file
    in it; `ros2 bag play` plays all of them. Nothing stands at the path until the context is left
    without an exception.
    """

    def __init__(self, path: Path) -> None:
        """Prepare; nothing is written yet.

        Raises:
            UsageError: something stands at `path` already: recordings are never overwritten.
            MissingExtraError: the rosbags library is not installed.

        """
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise UsageError(
                f"{path} exists and a bag is never overwritten; remove it or choose another"
            )
        self._path = path
        self._store = make_typestore()
        self._stack = ExitStack()
        self._writer: Any = None
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        """Open the bag."""
        self._writer = self._stack.enter_context(_open(self._path))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the bag in its place, or leave no trace of it after an exception."""
        self._writer = None
        self._stack.__exit__(kind, error, traceback)

    def message(self, type_name: str, **fields: Any) -> Any:
        """Make a message, e.g. `message("sensor_msgs/Image", header=..., ...)`; all fields needed.

        Array fields take numpy arrays of their element type.
        """
        return self._store.types[long_type(type_name)](**fields)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """Make a std_msgs/Header."""
        seconds, nanoseconds = divmod(stamp_ns, NS_PER_S)
        stamp = self.message("builtin_interfaces/Time", sec=seconds, nanosec=nanoseconds)
        return self.message("std_msgs/Header", stamp=stamp, frame_id=frame_id)

    def write(self, topic: str, message: Any, time_ns: int, latched: bool = False) -> None:
        """Write any message.

        Args:
            topic: its topic; the first message on it settles its type and `latched`.
            message: made by `message`.
            time_ns: when it was received, in nanoseconds.
            latched: whether players offer it to whoever subscribes later (transient local).

        Raises:
            AvCompressError: the disk is full.

        """
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._store, offered_qos_profiles=[_qos(latched)]
            )
        data = self._store.serialize_cdr(message, kind)
        self._writer.write(self._connections[topic], time_ns, data)

    def write_image(self, topic: str, frame: ImageFrame) -> None:
        """Write a frame as sensor_msgs/Image (bgr8 or rgb8) at its stamp."""
        message = self.message(
            "sensor_msgs/Image",
            header=self.header(frame.stamp_ns, frame.frame_id),
            height=frame.height,
            width=frame.width,
            encoding=f"{frame.color}8",
            is_bigendian=0,
            step=frame.width * 3,
            data=np.ascontiguousarray(frame.pixels).reshape(-1),
        )
        self.write(topic, message, frame.stamp_ns)

    def write_compressed(
        self, topic: str, data: bytes, format: str, stamp_ns: int, frame_id: str
    ) -> None:
        """Write an encoded image (format `jpeg` or `png`) as sensor_msgs/CompressedImage."""
        message = self.message(
            "sensor_msgs/CompressedImage",
            header=self.header(stamp_ns, frame_id),
            format=format,
            data=np.frombuffer(data, np.uint8),
        )
        self.write(topic, message, stamp_ns)

    def write_cloud(
        self, topic: str, points: npt.NDArray[np.void], stamp_ns: int, frame_id: str
    ) -> None:
        """Write points as sensor_msgs/PointCloud2, each as it lies in memory.

        Args:
            topic: its topic.
            points: structured [n], or [rows, columns] for an organised cloud; of numbers that
                sensor_msgs/PointField knows.
            stamp_ns: when they were measured, and received, in nanoseconds.
            frame_id: their coordinate frame.

        """
        points = points.astype(points.dtype.newbyteorder("<"))
        height, width = points.shape if points.ndim == 2 else (1, len(points))
        step = points.dtype.itemsize
        fields = [
            self.message("sensor_msgs/PointField", **asdict(field))
            for field in fields_of(points.dtype)
        ]
        message = self.message(
            "sensor_msgs/PointCloud2",
            header=self.header(stamp_ns, frame_id),
            height=height,
            width=width,
            fields=fields,
            is_bigendian=False,
            point_step=step,
            row_step=step * width,
            data=np.frombuffer(points.tobytes(), np.uint8),
            is_dense=True,
        )
        self.write(topic, message, stamp_ns)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Yield rosbags' writer; the bag moves to `path` when the context is left well."""
    rosbag2 = rosbags("rosbag2")
    plugin = rosbag2.StoragePlugin.SQLITE3 if path.suffix == ".db3" else rosbag2.StoragePlugin.MCAP
    single = path.suffix in {".mcap", ".db3"}
    with ExitStack() as stack:
        if single:
            target = stack.enter_context(atomic_file(path))
            folder = stack.enter_context(_scratch(path.parent))
        else:
            target = folder = stack.enter_context(atomic_directory(path, _FOLDER_MARK))
        # The writer makes its own folder and names its file after it.
        made = folder / (path.stem if single else path.name)
        try:
            with rosbag2.Writer(made, version=_BAG_VERSION, storage_plugin=plugin) as writer:
                yield writer
        except sqlite3.Error as error:
            raise AvCompressError(f"cannot write {path}: {error}") from error
        if single:
            (made / f"{path.stem}{path.suffix}").replace(target)
        else:
            for file in made.iterdir():
                file.replace(folder / file.name)
            made.rmdir()


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=".bag.", dir=parent) as name:
        yield Path(name)


def _qos(latched: bool) -> Any:
    face = rosbags("interfaces")
    forever = face.QosTime(9223372036, 854775807)  # RMW_DURATION_INFINITE
    return face.Qos(
        history=face.QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=face.QosReliability.RELIABLE,
        durability=(
            face.QosDurability.TRANSIENT_LOCAL if latched else face.QosDurability.VOLATILE
        ),
        deadline=forever,
        lifespan=forever,
        liveliness=face.QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )
