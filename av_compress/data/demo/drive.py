# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A drive written to disk: as a labelled COCO data set, and as a bag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from av_compress.data.bag_writer import BagWriter
from av_compress.data.demo.camera import Camera, render
from av_compress.data.demo.lidar import Lidar, sweep
from av_compress.data.demo.world import CLASSES, make_world
from av_compress.errors import AvCompressError
from av_compress.fileio import atomic_directory, canonical_json, write_text
from av_compress.progress import track
from av_compress.tasks.base import ImageFrame, Labels2D, Labels3D

IMAGE_TOPIC = "/camera/image_raw"
CAMERA_INFO_TOPIC = "/camera/camera_info"
POINTS_TOPIC = "/lidar/points"
CAMERA_FRAME, LIDAR_FRAME = "camera", "lidar"

# Any fixed moment will do; equal seeds give equal bags.
START_NS = 1_700_000_000_000_000_000
ANNOTATIONS = "annotations.json"


@dataclass(frozen=True)
class Drive:
    """A drive to render.

    Attributes:
        seed: of the street.
        seconds: how long.
        rate_hz: images, and sweeps, a second.

    """

    seed: int
    seconds: float = 12.0
    rate_hz: float = 10.0

    def times(self) -> Sequence[float]:
        """Return the seconds at which the sensors look."""
        return [n / self.rate_hz for n in range(round(self.seconds * self.rate_hz))]


def write_dataset(drives: Sequence[Drive], folder: Path) -> Path:
    """Render drives as PNG images with COCO annotations.

    Returns:
        the annotations' file; the images lie beside it.

    """
    camera = Camera()
    with atomic_directory(folder, ANNOTATIONS) as temporary:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        frames = [(drive, seconds) for drive in drives for seconds in drive.times()]
        worlds = {drive.seed: make_world(drive.seed) for drive in drives}
        for drive, seconds in track(frames, "render images"):
            pixels, labels = render(worlds[drive.seed], seconds, camera)
            name = f"drive{drive.seed:04d}_{round(seconds * 1000):06d}.png"
            if not cv2.imwrite(str(temporary / name), pixels):
                raise AvCompressError(f"cannot write {temporary / name}; is the disk full?")
            number = len(images) + 1
            size = {"width": camera.width, "height": camera.height}
            images.append({"id": number, "file_name": name, **size})
            annotations += _annotations(labels, number, len(annotations) + 1)
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_text(temporary / ANNOTATIONS, canonical_json(content))
    return folder / ANNOTATIONS


def _annotations(labels: Labels2D, image: int, first: int) -> list[dict[str, Any]]:
    found = []
    for offset, (box, label) in enumerate(zip(labels.boxes.tolist(), labels.labels.tolist())):
        width, height = box[2] - box[0], box[3] - box[1]
        found.append(
            {
                "id": first + offset,
                "image_id": image,
                "category_id": label + 1,
                "bbox": [box[0], box[1], width, height],
                "area": width * height,
                "iscrowd": 0,
            }
        )
    return found


@dataclass(frozen=True)
class Truth:
    """What is truly there in a drive.

    Attributes:
        images: of each image, labels in `world.CLASSES`.
        sweeps: of each sweep, likewise.

    """

    images: Sequence[Labels2D]
    sweeps: Sequence[Labels3D]


def write_bag(drive: Drive, path: Path) -> Truth:
    """Render a drive as a bag of images, camera info and LiDAR sweeps."""
    world, camera, lidar = make_world(drive.seed), Camera(), Lidar()
    images, sweeps = [], []
    with BagWriter(path) as writer:
        for seconds in track(drive.times(), "render the drive"):
            stamp = START_NS + round(seconds * 1e9)
            pixels, labels = render(world, seconds, camera)
            images.append(labels)
            writer.write_image(IMAGE_TOPIC, ImageFrame(pixels, "bgr", stamp, CAMERA_FRAME))
            writer.write(CAMERA_INFO_TOPIC, _camera_info(writer, camera, stamp), stamp)
            points, around = sweep(world, seconds, lidar)
            sweeps.append(around)
            writer.write_cloud(POINTS_TOPIC, points, stamp, LIDAR_FRAME)
    return Truth(images, sweeps)


def write_sweeps(drives: Sequence[Drive], path: Path) -> None:
    """Render the sweeps of drives as one bag; each drive begins when the one before has ended."""
    lidar, start = Lidar(), START_NS
    with BagWriter(path) as writer:
        for drive in track(drives, "render sweeps"):
            world = make_world(drive.seed)
            for seconds in drive.times():
                points, _ = sweep(world, seconds, lidar)
                stamp = start + round(seconds * 1e9)
                writer.write_cloud(POINTS_TOPIC, points, stamp, LIDAR_FRAME)
            start += round(drive.seconds * 1e9)


def _camera_info(writer: BagWriter, camera: Camera, stamp_ns: int) -> Any:
    center = (camera.width / 2, camera.height * 0.45)
    matrix = np.array([[camera.focal, 0, center[0]], [0, camera.focal, center[1]], [0, 0, 1.0]])
    region = writer.message(
        "sensor_msgs/RegionOfInterest",
        x_offset=0,
        y_offset=0,
        height=0,
        width=0,
        do_rectify=False,
    )
    return writer.message(
        "sensor_msgs/CameraInfo",
        header=writer.header(stamp_ns, CAMERA_FRAME),
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=matrix.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.hstack([matrix, np.zeros((3, 1))]).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=region,
    )
