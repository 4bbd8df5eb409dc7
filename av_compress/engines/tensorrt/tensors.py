# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The border of a plan: names, shapes and types of its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from av_compress.errors import EngineError
from av_compress.tensors import TensorSpec

if TYPE_CHECKING:
    from tensorrt_api import ICudaEngine, IExecutionContext, TensorRT

_DTYPES: dict[str, type[np.generic]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
}
_OPEN = -1


@dataclass(frozen=True)
class Border:
    """What goes into a plan and what comes out of it.

    Attributes:
        inputs: in the plan's order; an open batch is None.
        outputs: in the plan's order.
        largest: name -> shape with the largest batch that the plan was compiled for.
        batches: smallest and largest batch; None where no extent is open.

    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    largest: dict[str, tuple[int, ...]]
    batches: tuple[int, int] | None

    def shape(self, spec: TensorSpec, batch: int) -> tuple[int, ...]:
        """Return a tensor's shape in a batch."""
        whole = self.largest[spec.name]
        return (batch, *whole[1:]) if None in spec.shape else whole


def read_border(trt: TensorRT, engine: ICudaEngine, context: IExecutionContext) -> Border:
    """Read a plan's border; the context's inputs have their largest shapes afterwards.

    Raises:
        EngineError: a tensor has a type, a layout or extents that cannot be served.

    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    specs = {name: _spec(trt, engine, name) for name in names}
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    largest, batches = {}, None
    for name in inputs:
        largest[name] = _static(specs[name])
        if None in specs[name].shape:
            smallest, _, most = engine.get_tensor_profile_shape(name, 0)
            largest[name], batches = tuple(most), (int(smallest[0]), int(most[0]))
            context.set_input_shape(name, tuple(most))
    outputs = [name for name in names if name not in inputs]
    if batches == (1, 1):
        # Open in the model alone: nothing of the plan varies, so that it can be a graph.
        specs = {name: _closed(spec) for name, spec in specs.items()}
        batches = None
    for name in outputs:
        shape = tuple(int(extent) for extent in context.get_tensor_shape(name))
        if _OPEN in shape:
            raise EngineError(
                f"output {specs[name]} has an extent that depends on the data; build the bundle "
                "without what selects in the model (NonMaxSuppression, NonZero)"
            )
        largest[name] = shape
    return Border(
        tuple(specs[name] for name in inputs),
        tuple(specs[name] for name in outputs),
        largest,
        batches,
    )


def _spec(trt: TensorRT, engine: ICudaEngine, name: str) -> TensorSpec:
    dtype = engine.get_tensor_dtype(name)
    kind = next((kind for kind in _DTYPES if dtype == getattr(trt.DataType, kind, None)), None)
    if kind is None:
        raise EngineError(f"tensor {name!r} of the plan has the type {dtype}, which numpy lacks")
    if engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
        raise EngineError(
            f"tensor {name!r} of the plan is laid out as {engine.get_tensor_format_desc(name)}; "
            "only linear ones are served"
        )
    if engine.is_shape_inference_io(name):
        raise EngineError(f"tensor {name!r} of the plan holds a shape, which cannot be served")
    extents = tuple(engine.get_tensor_shape(name))
    shape = tuple(None if extent == _OPEN else int(extent) for extent in extents)
    return TensorSpec(name, shape, np.dtype(_DTYPES[kind]))


def _closed(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=tuple(1 if extent is None else extent for extent in spec.shape))


def _static(spec: TensorSpec) -> tuple[int, ...]:
    return spec.static_shape or ()
