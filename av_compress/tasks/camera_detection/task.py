# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The camera detection task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from av_compress.errors import ModelError
from av_compress.tasks.base import IMAGES, Detections2D, FrameNeeds, ImageFrame, Prepared
from av_compress.tasks.camera_detection.config import KIND, CameraDetectionConfig
from av_compress.tasks.camera_detection.heads import (
    FAMILIES,
    Border,
    Candidates,
    CellDecoder,
    CellOutputs,
    Cells,
)
from av_compress.tasks.camera_detection.outputs import Bound, bind
from av_compress.tasks.camera_detection.placement import Placement
from av_compress.tasks.camera_detection.preprocess import Preprocessor
from av_compress.tasks.camera_detection.suppression import best_first, drop_unusable, suppress
from av_compress.tasks.detection import DetectionTask, computable
from av_compress.tensors import Tensors, TensorSpec


class CameraDetection(DetectionTask[CameraDetectionConfig]):
    """A camera detector's meaning. Stateless and reentrant: frames may be processed in parallel.

    Attributes:
        kind: `camera_detection`.
        class_names: label index -> name.
        settings: the validated configuration.

    """

    kind: str = KIND
    result_type: type[Any] = Detections2D
    frame_needs: FrameNeeds = IMAGES

    def __init__(self, settings: CameraDetectionConfig) -> None:
        """Prepare the constants of preprocess and postprocess."""
        super().__init__(settings)
        self.class_names: Sequence[str] = settings.class_names
        self._border = Border(settings.input.width, settings.input.height, len(self.class_names))
        self._family = FAMILIES[settings.head.type]
        self._forms = self._family.forms(settings.head, self._border)
        self._names = settings.head.output_names()
        self._preprocessor = Preprocessor(settings.input, settings.resize)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CameraDetection:
        """Make the task that `config` describes; see schema/camera_detection_task.schema.json.

        Raises:
            ConfigError: names key, value and what is allowed.

        """
        return cls(CameraDetectionConfig.from_config(config))

    def preprocess_config(self) -> dict[str, Any]:
        """Return the kind, the input and the resize; see `Task.preprocess_config`."""
        config = self.config()
        return {key: config[key] for key in ("kind", "input", "resize")}

    def check_model(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        """Check that a model has this task's input and the outputs of its head.

        Raises:
            ModelError: names the tensors found and those wanted.

        """
        wanted = TensorSpec(
            self.settings.input.name,
            self.settings.input.shape,
            np.dtype(self.settings.input.dtype),
        )
        if len(inputs) != 1 or not _same_border(inputs[0], wanted):
            found = ", ".join(map(str, inputs)) or "none"
            raise ModelError(
                f"the model's inputs do not fit the task; found: {found}; wanted: {wanted}; "
                "check name, width, height, layout and dtype of task.input"
            )
        self._bind(outputs)

    def preprocess(self, frame: ImageFrame, out: Tensors | None = None) -> Prepared:
        """Resize and normalise an image.

        Args:
            frame: the image.
            out: the input's name -> array to write into; by default one is made.

        Raises:
            FrameError: the pixels are not uint8 [height, width, 3], or there are none.

        """
        name = self.settings.input.name
        tensor, placement = self._preprocessor(frame, None if out is None else out[name])
        return Prepared({name: tensor}, placement)

    def postprocess(self, outputs: Tensors, context: Placement) -> Detections2D:
        """Decode, suppress, and map to the pixels of the original image.

        Args:
            outputs: output name -> array, float32 or float16.
            context: `Prepared.context` of the same frame.

        Raises:
            ModelError: the outputs are not those of the head.

        """
        return self._mapped(self.decode(outputs), context)

    def postprocess_cells(self, cells: Cells, context: Placement) -> Detections2D:
        """Do as `postprocess` does, of the cells that a device has chosen; the result is the same.

        Args:
            cells: of the frame's outputs, at least those that `cell_outputs` finds.
            context: `Prepared.context` of the same frame.

        Raises:
            ModelError: outputs of this layout are decoded as a whole.

        """
        return self._mapped(self.decode_cells(cells), context)

    def decode(self, outputs: Tensors) -> Candidates:
        """Decode and suppress; the boxes stay in pixels of the network's input, unclipped.

        Raises:
            ModelError: the outputs are not those of the head.

        """
        specs = [TensorSpec(name, array.shape, array.dtype) for name, array in outputs.items()]
        bound = self._bind(specs)
        arrays = {role: computable(outputs[name]) for role, name in bound.tensors.items()}
        head, threshold = self.settings.head, self.settings.score_threshold
        decoder = self._family.decoders[bound.form]
        with np.errstate(all="ignore"):
            return self._chosen(decoder.decode(head, self._border, bound.form, arrays, threshold))

    def decode_cells(self, cells: Cells) -> Candidates:
        """Do as `decode` does, of cells; see `postprocess_cells`.

        Raises:
            ModelError: outputs of this layout are decoded as a whole.

        """
        head, threshold = self.settings.head, self.settings.score_threshold
        decoder = self._family.decoders.get(cells.form)
        if not isinstance(decoder, CellDecoder):
            raise ModelError(
                f"the layout '{cells.form}' of the head '{head.type}' is not decoded cell by "
                "cell; give the outputs as a whole"
            )
        with np.errstate(all="ignore"):
            return self._chosen(decoder.decode_cells(head, self._border, cells, threshold))

    def cell_outputs(self, outputs: Sequence[TensorSpec]) -> CellOutputs | None:
        """Say where in a model's outputs cells lie, and which can hold a candidate.

        Args:
            outputs: of the model; a first axis that is open is the batch.

        Returns:
            None where the outputs are decoded as a whole, or their extents are not known.

        Raises:
            ModelError: the outputs are not those of the head.

        """
        bound = self._bind(outputs)
        decoder = self._family.decoders[bound.form]
        form = next(form for form in self._forms if form.name == bound.form)
        specs = {spec.name: spec for spec in outputs}
        extents = {
            wanted.role: wanted.extents(specs[bound.tensors[wanted.role]])
            for wanted in form.wanted
        }
        shapes = {role: shape for role, shape in extents.items() if shape is not None}
        if not isinstance(decoder, CellDecoder) or len(shapes) < len(extents):
            return None
        scoring = decoder.scoring(self.settings.head, self._border, bound.form, shapes)
        return CellOutputs(bound.form, bound.tensors, shapes, scoring)

    def _chosen(self, found: Candidates) -> Candidates:
        best = best_first(drop_unusable(found))
        return best if self.settings.head.suppresses else suppress(best, self.settings.nms)

    def _mapped(self, found: Candidates, context: Placement) -> Detections2D:
        return _detections(found, context, self.settings.nms.max_detections)

    def _bind(self, outputs: Sequence[TensorSpec]) -> Bound:
        head = (
            f"the head '{self.settings.head.type}' with {self._border.classes} classes "
            f"at {self._border.width}x{self._border.height}"
        )
        note = f" ({self._family.note})" if self._family.note else ""
        return bind(outputs, self._forms, self._names, head + note)


def _same_border(found: TensorSpec, wanted: TensorSpec) -> bool:
    return (
        found.name == wanted.name
        and found.dtype == wanted.dtype
        and len(found.shape) == len(wanted.shape)
        and all(have in {None, want} for have, want in zip(found.shape, wanted.shape))
    )


def _detections(found: Candidates, placement: Placement, limit: int) -> Detections2D:
    """Map candidates to the image and clip them; those that lie outside it are dropped."""
    boxes: npt.NDArray[np.float32] = placement.to_image(found.boxes)
    size = np.array([placement.image_width, placement.image_height] * 2, np.float32)
    boxes = np.clip(boxes, np.float32(0.0), size)
    inside = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))[:limit]
    return Detections2D(
        boxes=boxes[inside],
        scores=np.minimum(found.scores[inside], np.float32(1.0)),
        labels=found.labels[inside],
    )
