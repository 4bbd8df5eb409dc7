# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Names, shapes and dtypes of the tensors at a model's border."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Tensors: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: tensor name in the ONNX graph.
        shape: extents; None where the extent is dynamic.
        dtype: numpy element type.

    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        """Format as `name[1,3,?,?] float32`."""
        extents = ",".join("?" if extent is None else str(extent) for extent in self.shape)
        return f"{self.name}[{extents}] {self.dtype}"

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape where no extent is dynamic, else None."""
        extents = tuple(extent for extent in self.shape if extent is not None)
        return extents if len(extents) == len(self.shape) else None

    def accepts(self, array: Array) -> bool:
        """Tell whether `array` has this dtype and fits this shape."""
        return (
            array.dtype == self.dtype
            and array.ndim == len(self.shape)
            and all(want is None or want == have for want, have in zip(self.shape, array.shape))
        )
