# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A task and a plan, joined with as much as can be done on the device."""

from __future__ import annotations

from typing import Any

from av_compress.engines.base import Engine
from av_compress.engines.batch import BatchPipeline
from av_compress.engines.device_pipeline import DevicePipeline
from av_compress.engines.kernels.compilers import NoCompilerError
from av_compress.engines.kernels.stages import NoStagesError, make_stages
from av_compress.engines.pipeline import Pipeline, Where
from av_compress.engines.tensorrt.engine import TensorRTEngine
from av_compress.tasks.base import Task


def join(task: Task[Any, Any], engine: Engine, max_batch: int, where: Where) -> Pipeline:
    """Join a task and an engine that runs a plan.

    Args:
        task: what the model means.
        engine: belongs to the pipeline from then on.
        max_batch: most frames in one run.
        where: frames are prepared; see `Bundle.open_pipeline`.

    Raises:
        ModelError: the plan does not fit the task.
        EngineError: the device is asked for, and there is nothing for this task, or no compiler.
        CudaError: device memory does not suffice, or the device fails.

    """
    if where == "host" or not isinstance(engine, TensorRTEngine):
        return BatchPipeline(task, engine, max_batch)
    try:
        stages = make_stages(task, engine, max_batch)
    except (NoStagesError, NoCompilerError) as error:
        if where == "device":
            raise
        # The reason is told with whatever names the pipeline; the results are the same.
        host = BatchPipeline(task, engine, max_batch)
        host.description = f"{engine.description}, preprocess on the host: {error}"
        return host
    return DevicePipeline(task, engine, stages, max_batch)
