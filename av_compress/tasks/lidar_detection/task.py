# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The LiDAR detection task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from av_compress.errors import ConfigError, FrameError, ModelError
from av_compress.tasks.base import Detections3D, FrameNeeds, PointCloud, Prepared, Sweeps
from av_compress.tasks.camera_detection.outputs import Bound, bind
from av_compress.tasks.detection import DetectionTask, computable
from av_compress.tasks.lidar_detection.config import KIND, LidarDetectionConfig
from av_compress.tasks.lidar_detection.encoders import Counts
from av_compress.tasks.lidar_detection.features import POINT_CHANNELS
from av_compress.tasks.lidar_detection.heads import FAMILIES, Candidates, Plane
from av_compress.tasks.lidar_detection.points import Selected, checked, select
from av_compress.tasks.lidar_detection.suppression import best_first, drop_unusable, suppress
from av_compress.tensors import Tensors, TensorSpec

# Of a cloud's points: what is lost of less is not worth a word.
_FEW = 0.01


@dataclass(frozen=True)
class CloudContext:
    """What became of a cloud's points; postprocess needs none of it, a node publishes it.

    Attributes:
        points: how many the cloud had.
        in_ego_box: how many of them lay in the ego box, and were dropped.
        unusable: how many had values that the model cannot be told, and lie nowhere; they are
            among `counts.outside`.
        counts: what became of the others.

    """

    points: int
    in_ego_box: int
    unusable: int
    counts: Counts

    def shortfalls(self) -> dict[str, str]:
        """Return what about -> why the model was told much less than was measured."""
        lost, few = self.counts.surplus_voxel_points, _FEW * self.points
        found = {}
        if self.unusable > few:
            found["points"] = (
                f"{self.unusable} of {self.points} points have a NaN, an infinite or too large "
                "value, and are not told to the model"
            )
        if lost > few:
            found["voxels"] = (
                f"{lost} of {self.points} points lie in voxels for which there was no room beside "
                f"{self.counts.voxels} others (max_voxels)"
            )
        return found


class LidarDetection(DetectionTask[LidarDetectionConfig]):
    """A LiDAR detector's meaning. Stateless and reentrant: clouds may be processed in parallel.

    Attributes:
        kind: `lidar_detection`.
        class_names: label index -> name.
        settings: the validated configuration.
        point_columns: the columns of a cloud's points that it must have: the first ones of
            `features.POINT_CHANNELS`.

    """

    kind: str = KIND
    result_type: type[Any] = Detections3D

    def __init__(self, settings: LidarDetectionConfig) -> None:
        """Prepare the constants of preprocess and postprocess.

        Raises:
            ConfigError: parts of the configuration do not go together.

        """
        super().__init__(settings)
        self.class_names: Sequence[str] = settings.class_names
        settings.head.check(settings.class_names)
        self._encoder = settings.input.encoder.make(settings.input.grid)
        self.point_columns: Sequence[str] = POINT_CHANNELS[: self._encoder.columns]
        _check_sweeps(self.frame_needs.sweeps, self.point_columns)
        self._plane = Plane(settings.input.grid, self._encoder.rows_along, settings.class_names)
        self._family = FAMILIES[settings.head.type]
        self._forms = self._family.forms(settings.head, self._plane)
        self._names = settings.head.output_names()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LidarDetection:
        """Make the task that `config` describes; see schema/lidar_detection_task.schema.json.

        Raises:
            ConfigError: names key, value and what is allowed.

        """
        return cls(LidarDetectionConfig.from_config(config))

    @property
    def frame_needs(self) -> FrameNeeds:
        """Clouds of so many sweeps, with the columns that the model is told of; see `Task`."""
        wanted = self.settings.input
        sweeps = Sweeps(wanted.sweeps.count, wanted.sweeps.max_age_s, wanted.ego_box)
        return FrameNeeds(PointCloud, self.point_columns, sweeps)

    def preprocess_config(self) -> dict[str, Any]:
        """Return the kind and the input; see `Task.preprocess_config`."""
        config = self.config()
        return {key: config[key] for key in ("kind", "input")}

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """The tensors that preprocess makes; None where an extent depends on the cloud."""
        return self._encoder.specs

    def check_model(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        """Check that a model has this task's inputs and the outputs of its head.

        Raises:
            ModelError: names the tensors found and those wanted.

        """
        found = {spec.name: spec for spec in inputs}
        wanted = {spec.name: spec for spec in self.input_specs}
        if set(found) != set(wanted) or not all(
            _takes(found[name], spec) for name, spec in wanted.items()
        ):
            have, want = (
                ", ".join(map(str, specs)) or "none" for specs in (inputs, self.input_specs)
            )
            raise ModelError(
                f"the model's inputs do not fit the task; found: {have}; wanted: {want}; check "
                "task.input: lower, upper and voxel_size, and names, types, max_points, features, "
                "index_form and padding of the encoder ('?' is an open extent: padding none; a "
                "model of a fixed number of voxels wants padding and max_voxels)"
            )
        self._bind(outputs)

    def preprocess(self, frame: PointCloud, out: Tensors | None = None) -> Prepared:
        """Divide a cloud into cells and describe its points.

        Args:
            frame: the cloud; one without points in the range will do.
            out: input name -> array to write into, by default arrays are made. Where the number
                of voxels is open, they have room for the most, and the tensors are their first
                rows.

        Raises:
            FrameError: see `select`.
            ModelError: an array to write into has another type or shape.

        """
        kept = self.select(frame)
        tensors, counts = self._encoder(kept.points, out)
        return Prepared(tensors, CloudContext(len(frame), kept.in_ego_box, kept.unusable, counts))

    def select(self, frame: PointCloud) -> Selected:
        """Return the points that are read, as they are read.

        Raises:
            FrameError: the points are not float32 [n, c], or a column is missing, or no point has
                values that the model can be told.

        """
        wanted, encoder = self.settings.input, self._encoder
        kept = select(
            checked(frame, encoder.columns),
            wanted.ego_box,
            wanted.intensity_scale,
            encoder.told,
            encoder.largest,
        )
        if kept.unusable and not kept.usable:
            names = ", ".join(POINT_CHANNELS[column] for column in encoder.told)
            raise FrameError(
                f"cloud {frame.key!r}: each of its {kept.unusable} points has a NaN, an infinite "
                f"value or one over {encoder.largest:.3g} in {names}; name the field that holds "
                "it, or have it read as zeros"
            )
        return kept

    def postprocess(self, outputs: Tensors, context: CloudContext) -> Detections3D:
        """Decode and suppress.

        Args:
            outputs: output name -> array, float32 or float16.
            context: `Prepared.context` of the same frame.

        Raises:
            ModelError: the outputs are not those of the head.

        """
        found = suppress(
            best_first(self.decode(outputs), self.settings.nms.max_candidates), self.settings.nms
        )
        return Detections3D(
            boxes=found.boxes,
            scores=np.minimum(found.scores, np.float32(1.0)),
            labels=found.labels,
            velocities=found.velocities,
        )

    def decode(self, outputs: Tensors) -> Candidates:
        """Return every usable box over the score threshold.

        Raises:
            ModelError: the outputs are not those of the head.

        """
        specs = [TensorSpec(name, array.shape, array.dtype) for name, array in outputs.items()]
        bound = self._bind(specs)
        arrays = {role: computable(outputs[name]) for role, name in bound.tensors.items()}
        with np.errstate(all="ignore"):
            found = self._family.decode(
                self.settings.head, self._plane, bound.form, arrays, self.settings.score_threshold
            )
            return drop_unusable(found)

    def _bind(self, outputs: Sequence[TensorSpec]) -> Bound:
        """Find the outputs' roles: by configured name, by a name that is the role's, by shape."""
        roles = {wanted.role for form in self._forms for wanted in form.wanted}
        known = {spec.name: spec.name for spec in outputs if spec.name in roles}
        taken = set(self._names.values())
        names = {**{k: v for k, v in known.items() if v not in taken}, **self._names}
        rows, columns = self._plane.cells(1)
        head = (
            f"the head '{self.settings.head.type}' with {len(self.class_names)} classes on a grid "
            f"of {rows} rows and {columns} columns"
        )
        note = f" ({self._family.note})" if self._family.note else ""
        return bind(outputs, self._forms, names, head + note)


def _check_sweeps(sweeps: Sweeps, columns: Sequence[str]) -> None:
    """Refuse several sweeps for a model that is told no time, or what is one sweep's own.

    Raises:
        ConfigError: see above.

    """
    if not sweeps.several:
        return
    where = f"task.input.sweeps.count: {sweeps.count} is not allowed"
    if "time" not in columns:
        raise ConfigError(
            f"{where}: the model is told no time of its points, so that it cannot tell one sweep "
            "from another; name time in task.input.encoder.features, or set it to 1"
        )
    if "ring" in columns:
        raise ConfigError(
            f"{where}: the model is told the rings of its points, which several sweeps do not "
            "have in common; set it to 1"
        )


def _takes(found: TensorSpec, made: TensorSpec) -> bool:
    """Tell whether a model's input takes what is made: an extent that is open must be open."""
    return (
        found.dtype == made.dtype
        and len(found.shape) == len(made.shape)
        and all(have in {None, want} for have, want in zip(found.shape, made.shape))
    )
