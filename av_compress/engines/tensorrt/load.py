# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Deserialising a plan, with the reason where it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from av_compress.errors import EngineError

if TYPE_CHECKING:
    from tensorrt_api import ICudaEngine, Runtime, TensorRT

# What TensorRT says -> what it means, and what to do. Texts differ a little between versions.
_MEANINGS = (
    (("version tag", "serialization version", "serialized engine version", "version mismatch"),
     "it was compiled by another version of TensorRT; compile it again with this one"),
    (("incompatible device", "compute capability", "different device", "device mismatch",
      "generated on", "target gpu"),
     "it was compiled for another card; compile it on, or for, this one"),
    (("magic tag", "truncated", "corrupt", "header", "checksum", "size of the plan"),
     "it is damaged or no plan; compile it again"),
    (("out of memory", "outofmemory", "allocation", "cuda error 2"),
     "there is too little device memory; close what else uses the card"),
    (("host code", "lean runtime"),
     "it holds code for the host, which is run only where the recipe's author asked for it and "
     "the bundle is signed"),
    (("plugin",),
     "it needs a plugin that is not installed"),
)  # fmt: skip


def load_plan(
    trt: TensorRT, logger: Any, plan: bytes, host_code: bool = False, dla_core: int | None = None
) -> tuple[Runtime, ICudaEngine]:
    """Deserialise a plan; its hash was verified before.

    Args:
        trt: the backend's module.
        logger: see `make_log`.
        plan: the plan.
        host_code: whether a plan may bring code for the host along.
        dla_core: DLA core that runs it; None: the GPU.

    Raises:
        EngineError: there is no usable device, or TensorRT refuses the plan; it says why.

    """
    try:
        runtime = trt.Runtime(logger)
    except TypeError as error:
        # What the binding raises where the library returned nothing.
        raise EngineError(
            f"TensorRT {trt.__version__} makes no runtime: "
            f"{logger.said() or 'no NVIDIA device or driver that it can use'}"
        ) from error
    if host_code:
        runtime.engine_host_code_allowed = True
    if dla_core is not None:
        runtime.DLA_core = dla_core
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        said = logger.said() or "it says not why"
        raise EngineError(f"TensorRT {trt.__version__} refuses the plan: {_meaning(said)}{said}")
    return runtime, engine


def _meaning(said: str) -> str:
    lowered = said.lower()
    for words, meaning in _MEANINGS:
        if any(word in lowered for word in words):
            return f"{meaning}. It said: "
    return ""
