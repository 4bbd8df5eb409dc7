# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A family of heads: its configuration, the layouts of its outputs, and how each is decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeAlias

from av_compress.tasks.camera_detection.heads.base import Border, Candidates, HeadT
from av_compress.tasks.camera_detection.heads.cells import Cells, Scoring, Shapes
from av_compress.tasks.camera_detection.outputs import Form
from av_compress.tensors import Array


@dataclass(frozen=True)
class WholeDecoder(Generic[HeadT]):
    """Decodes outputs that only as a whole say what is a candidate, or are small.

    Attributes:
        decode: outputs by role (float ones as float32), score threshold -> candidates.

    """

    decode: Callable[[HeadT, Border, str, Mapping[str, Array], float], Candidates]


@dataclass(frozen=True)
class CellDecoder(Generic[HeadT]):
    """Decodes cell by cell, so that all but those that can hold a candidate may be left behind.

    Attributes:
        scoring: shapes of the outputs by role -> how a cell's score is found.
        decode_cells: cells, score threshold -> candidates, in the order of the cells. It decides
            itself which candidates are over the threshold: cells without any change nothing.

    """

    scoring: Callable[[HeadT, Border, str, Shapes], Scoring]
    decode_cells: Callable[[HeadT, Border, Cells, float], Candidates]

    def decode(
        self,
        head: HeadT,
        border: Border,
        form: str,
        outputs: Mapping[str, Array],
        threshold: float,
    ) -> Candidates:
        """Choose the cells of whole outputs, and decode them; see `WholeDecoder`."""
        shapes = {role: array.shape for role, array in outputs.items()}
        scoring = self.scoring(head, border, form, shapes)
        cells = Cells(form, *scoring.find(outputs, threshold))
        return self.decode_cells(head, border, cells, threshold)


Decoder: TypeAlias = WholeDecoder[HeadT] | CellDecoder[HeadT]


@dataclass(frozen=True)
class Family(Generic[HeadT]):
    """A family of heads.

    Attributes:
        config: the configuration's class; its fields are the keys of `task.head`.
        forms: the layouts of outputs that models of the family have, the most specific first.
        decoders: for each form's name what turns outputs into candidates. Floating point faults
            are silent there: what is not finite is dropped later.
        note: what a user may have forgotten when no form fits.

    """

    config: type[HeadT]
    forms: Callable[[HeadT, Border], tuple[Form, ...]]
    decoders: Mapping[str, Decoder[HeadT]]
    note: str = ""
