# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""ICudaEngine, and what it is asked with: inspector, runtime configuration and cache."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from trt_stand_in.context import Context
from trt_stand_in.execute import DTYPES, Program
from trt_stand_in.layers import engine_json, layer_json, layer_text
from trt_stand_in.memory import host_memory
from trt_stand_in.plan import Header, write_plan
from trt_stand_in.world import Behaviour, World

_CACHE = b"STANDCACHE"


class Engine(Behaviour):
    """A loaded plan."""

    kind = "ICudaEngine"

    def __init__(self, runtime: Any, header: Header, model: bytes) -> None:
        super().__init__(runtime.world, runtime.logger)
        self.runtime, self.header, self.data = runtime, header, model
        self.error_recorder = runtime.error_recorder
        self.program = Program.of(model)
        self.tensors = {tensor["name"]: tensor for tensor in header.tensors}
        self.name = header.name
        enum = self.world.enum
        self.engine_capability = enum("EngineCapability", "STANDARD")
        self.profiling_verbosity = enum("ProfilingVerbosity", header.verbosity)
        self.hardware_compatibility_level = enum(
            "HardwareCompatibilityLevel", header.compatibility
        )
        self.refittable = header.refittable
        self.num_aux_streams, self.tactic_sources, self.max_batch_size = 0, 3, 1
        self.has_implicit_batch_dimension = False
        self.streamable_weights_size = self.weight_streaming_budget_v2 = 0
        self.weight_streaming_budget = self.minimum_weight_streaming_budget = 0
        self.weight_streaming_scratch_memory_size = 0
        self.weights_loaded = True

    @property
    def num_io_tensors(self) -> int:
        return len(self.header.tensors)

    num_bindings = num_io_tensors

    @property
    def num_layers(self) -> int:
        return len(self.header.layers)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.header.profiles)

    @property
    def device_memory_size(self) -> int:
        return self.header.scratch

    device_memory_size_v2 = device_memory_size

    def get_device_memory_size_for_profile(self, _index: int) -> int:
        return self.header.scratch

    get_device_memory_size_for_profile_v2 = get_device_memory_size_for_profile

    def tensor(self, name: str | int, member: str) -> dict[str, Any] | None:
        """Return a tensor's entry; None, with an error logged, where there is none."""
        if isinstance(name, int):
            name = self.get_tensor_name(name) or ""
        if name not in self.tensors:
            self.error(f"ICudaEngine::{member}: there is no input or output {name!r}")
        return self.tensors.get(name)

    def get_tensor_name(self, index: int) -> str | None:
        if not 0 <= index < len(self.header.tensors):
            self.error(f"ICudaEngine::getIOTensorName: {index} is out of range")
            return None
        return self.header.tensors[index]["name"]

    def get_tensor_mode(self, name: str) -> Any:
        entry = self.tensor(name, "getTensorIOMode")
        return self.world.enum("TensorIOMode", entry["mode"] if entry else "NONE")

    def get_tensor_dtype(self, name: str | int) -> Any:
        entry = self.tensor(name, "getTensorDataType")
        return self.world.enum("DataType", entry["dtype"] if entry else "FLOAT")

    def get_tensor_shape(self, name: str | int) -> tuple[int, ...]:
        entry = self.tensor(name, "getTensorShape")
        return tuple(entry["shape"]) if entry else ()

    def get_tensor_location(self, name: str | int) -> Any:
        return self.world.enum("TensorLocation", "DEVICE")

    def get_tensor_format(self, name: str, _profile: int = 0) -> Any:
        return self.world.enum("TensorFormat", "LINEAR")

    def get_tensor_format_desc(self, name: str, _profile: int = 0) -> str:
        return f"Row major linear {self.get_tensor_dtype(name).name} format (kLINEAR)"

    def get_tensor_bytes_per_component(self, name: str, _profile: int = 0) -> int:
        return np.dtype(DTYPES[self.get_tensor_dtype(name).name]).itemsize

    def get_tensor_components_per_element(self, name: str, _profile: int = 0) -> int:
        return 1

    def get_tensor_vectorized_dim(self, name: str, _profile: int = 0) -> int:
        return -1

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    is_debug_tensor = is_shape_inference_io

    def get_aliased_input_tensor(self, name: str) -> None:
        return None

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        entry = self.tensor(name, "getProfileShape")
        if entry is None or not 0 <= profile_index < len(self.header.profiles):
            return [(), (), ()]
        shapes = self.header.profiles[profile_index].get(name, [[], [], []])
        return [tuple(shape) for shape in shapes]

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)

    def create_execution_context(self, how: Any = None) -> Any:
        own = not _user_managed(how)
        cache = how.cache if isinstance(how, RuntimeConfig) else None
        if cache is not None:
            cache.known.add(hashlib.sha256(self.data).hexdigest())
        return Context.made(self, own)

    def create_execution_context_without_device_memory(self) -> Any:
        return Context.made(self, False)

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig(self)

    def create_serialization_config(self) -> SerializationConfig:
        return SerializationConfig(self.world, self.logger)

    def serialize(self) -> Any:
        return host_memory(self.world, write_plan(self.header, self.data))

    def serialize_with_config(self, _config: SerializationConfig) -> Any:
        return self.serialize()

    # Of 8.6: bindings by number.

    def get_binding_name(self, index: int) -> str | None:
        return self.get_tensor_name(index)

    def get_binding_index(self, name: str) -> int:
        return list(self.tensors).index(name) if name in self.tensors else -1

    def binding_is_input(self, binding: str | int) -> bool:
        entry = self.tensor(binding, "bindingIsInput")
        return entry is not None and entry["mode"] == "INPUT"

    def get_binding_shape(self, binding: str | int) -> Any:
        return self.world.classes["Dims"](self.get_tensor_shape(binding))

    get_binding_dtype = get_tensor_dtype
    get_location = get_tensor_location


def _user_managed(how: Any) -> bool:
    strategy = how.strategy if isinstance(how, RuntimeConfig) else how
    return strategy is not None and strategy.name == "USER_MANAGED"


class SerializationConfig(Behaviour):
    """Flags of a serialisation."""

    kind = "ISerializationConfig"

    def __init__(self, world: World, logger: Any) -> None:
        super().__init__(world, logger)
        self.flags = 0

    def set_flag(self, flag: Any) -> bool:
        self.flags |= 1 << int(flag)
        return True

    def clear_flag(self, flag: Any) -> bool:
        self.flags &= ~(1 << int(flag))
        return True

    def get_flag(self, flag: Any) -> bool:
        return bool(self.flags >> int(flag) & 1)


class RuntimeConfig(Behaviour):
    """How a context is made; on RTX also with which cache of kernels."""

    kind = "IRuntimeConfig"

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.world, engine.logger)
        self.strategy = self.world.enum("ExecutionContextAllocationStrategy", "STATIC")
        self.cache: Any = None
        if self.world.facts.rtx:
            self.cuda_graph_strategy = self.world.enum("CudaGraphStrategy", "DISABLED")
            self.dynamic_shapes_kernel_specialization_strategy = self.world.enum(
                "DynamicShapesKernelSpecializationStrategy", "LAZY"
            )

    def get_execution_context_allocation_strategy(self) -> Any:
        return self.strategy

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache(self.world, self.logger)

    def get_runtime_cache(self) -> Any:
        return self.cache

    def set_runtime_cache(self, cache: Any) -> bool:
        self.cache = cache
        return True


class RuntimeCache(Behaviour):
    """RTX's cache of kernels: here, the names of plans that had a context with it."""

    kind = "IRuntimeCache"

    def __init__(self, world: World, logger: Any) -> None:
        super().__init__(world, logger)
        self.known: set[str] = set()

    def serialize(self) -> Any:
        return host_memory(self.world, _CACHE + json.dumps(sorted(self.known)).encode())

    def deserialize(self, blob: memoryview) -> bool:
        data = bytes(blob)
        if not data.startswith(_CACHE):
            return self.refuse("IRuntimeCache::deserialize: the blob is no runtime cache")
        self.known |= set(json.loads(data[len(_CACHE) :]))
        return True

    def reset(self) -> bool:
        self.known.clear()
        return True


class Inspector(Behaviour):
    """Tells of an engine's layers, in the layout of its version."""

    kind = "EngineInspector"

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.world, engine.logger)
        self.engine = engine
        self.execution_context: Any = None
        self.eleven = engine.world.facts.rtx or engine.world.facts.number[0] >= 11

    def get_layer_information(self, index: int, layout: Any) -> Any:
        layers = self.engine.header.layers
        if not 0 <= index < len(layers):
            self.error(f"IEngineInspector::getLayerInformation: {index} is out of range")
            return None
        if layout.name == "ONELINE":
            return layer_text(layers[index])
        return json.dumps(layer_json(layers[index], self.engine.header.verbosity, self.eleven))

    def get_engine_information(self, layout: Any) -> str:
        if layout.name == "ONELINE":
            return "\n".join(layer_text(layer) for layer in self.engine.header.layers)
        return engine_json(self.engine.header, self.eleven)
