# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Builder and what it hands out: configurations, profiles, timing caches."""

from __future__ import annotations

import json
from typing import Any

from trt_stand_in.building import build_plan
from trt_stand_in.memory import host_memory
from trt_stand_in.network import Layer, Network
from trt_stand_in.world import Behaviour, World

_WORKSPACE = 2**36
_TIMINGS = b"STANDTIM"


class Builder(Behaviour):
    """Builds plans. Without a card, only TensorRT for RTX's can be made."""

    kind = "Builder"

    def __init__(self, world: World, logger: Any) -> None:
        super().__init__(world, logger)
        if world.control.card is None and not world.facts.rtx:
            self.error("CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self.max_threads = 1
        self.max_batch_size = 1
        self.max_DLA_batch_size = 4096
        self.gpu_allocator: Any = None

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802
        return self.world.control.dla_cores

    @property
    def platform_has_fast_fp16(self) -> bool:
        return self.world.control.fast_fp16

    @property
    def platform_has_fast_int8(self) -> bool:
        return self.world.control.fast_int8

    @property
    def platform_has_tf32(self) -> bool:
        card = self.world.control.card
        return card is not None and card.capability >= (8, 0)

    def create_network(self, flags: int) -> Network:
        return Network(self.world, self, flags)

    def create_builder_config(self) -> Config:
        return Config(self.world, self)

    def create_optimization_profile(self) -> Profile:
        return Profile(self.world, self.logger)

    def is_network_supported(self, network: Network, config: Config) -> bool:
        return build_plan(self, network, config) is not None

    def build_serialized_network(self, network: Network, config: Config) -> Any:
        made = build_plan(self, network, config)
        return None if made is None else host_memory(self.world, made)

    def build_engine_with_config(self, network: Network, config: Config) -> Any:
        from trt_stand_in.runtime import Runtime

        made = build_plan(self, network, config)
        runtime = Runtime(self.world, self.logger)
        runtime.engine_host_code_allowed = True
        return None if made is None else runtime.deserialize_cuda_engine(made)

    build_engine = build_engine_with_config

    def build_serialized_network_to_stream(
        self, network: Network, config: Config, writer: Any
    ) -> bool:
        made = build_plan(self, network, config)
        return made is not None and writer.write(made, len(made)) == len(made)

    def reset(self) -> None:
        self.max_threads = 1


class Config(Behaviour):
    """A build's configuration."""

    kind = "IBuilderConfig"

    def __init__(self, world: World, builder: Builder) -> None:
        super().__init__(world, builder.logger)
        self.builder = builder
        self.reset()

    def reset(self) -> None:
        enum, has = self.world.enum, self.world.has
        self.flags = 1 << int(enum("BuilderFlag", "TF32"))
        self.quantization_flags = self.preview_features = 0
        self.avg_timing_iterations, self.min_timing_iterations = 1, 2
        self._level = 3
        self.max_num_tactics = self.max_aux_streams = -1
        self.DLA_core, self.profile_stream, self.l2_limit_for_tiling = -1, 0, -1
        self.profiling_verbosity = enum("ProfilingVerbosity", "LAYER_NAMES_ONLY")
        self.engine_capability = enum("EngineCapability", "STANDARD")
        self.default_device_type = enum("DeviceType", "GPU")
        self.hardware_compatibility_level = enum("HardwareCompatibilityLevel", "NONE")
        for name, attribute, member in (
            ("RuntimePlatform", "runtime_platform", "SAME_AS_BUILD"),
            ("TilingOptimizationLevel", "tiling_optimization_level", "NONE"),
        ):
            if has(name, member):
                setattr(self, attribute, enum(name, member))
        self.int8_calibrator = self.algorithm_selector = self.progress_monitor = None
        self.plugins_to_serialize: list[str] = []
        self.build_route = self.remote_auto_tuning_config = ""
        self.profiles: list[Profile] = []
        self.calibration_profile: Any = None
        self.pools: dict[str, int] = {"WORKSPACE": _WORKSPACE}
        self.devices: dict[int, Any] = {}
        self.timing_cache: TimingCache | None = None
        self._capabilities: list[Any] = []
        self.tactic_sources = 3

    @property
    def builder_optimization_level(self) -> int:
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, value: int) -> None:
        # TensorRT takes the nearest level: 9 is 5.
        self._level = min(max(value, 0), 5)

    @property
    def max_workspace_size(self) -> int:
        return self.pools["WORKSPACE",]

    @max_workspace_size.setter
    def max_workspace_size(self, value: int) -> None:
        self.pools["WORKSPACE"] = value

    def set_flag(self, flag: Any) -> None:
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self.flags >> int(flag) & 1)

    def flag(self, name: str) -> bool:
        """Tell whether a flag is set, by its name; one that the version lacks is not."""
        known = self.world.has("BuilderFlag", name)
        return known and self.get_flag(self.world.enum("BuilderFlag", name))

    def set_quantization_flag(self, flag: Any) -> None:
        self.quantization_flags |= 1 << int(flag)

    def clear_quantization_flag(self, flag: Any) -> None:
        self.quantization_flags &= ~(1 << int(flag))

    def get_quantization_flag(self, flag: Any) -> bool:
        return bool(self.quantization_flags >> int(flag) & 1)

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        bit = 1 << int(feature)
        self.preview_features = self.preview_features & ~bit | bit * enable

    def get_preview_feature(self, feature: Any) -> bool:
        return bool(self.preview_features >> int(feature) & 1)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        if pool.name == "DLA_MANAGED_SRAM" and size & (size - 1):
            self.error("IBuilderConfig::setMemoryPoolLimit: DLA pools are powers of two")
            return
        self.pools[pool.name] = size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self.pools.get(pool.name, _WORKSPACE if pool.name.startswith("TACTIC") else 2**20)

    def set_tactic_sources(self, sources: int) -> bool:
        self.tactic_sources = sources
        return True

    def get_tactic_sources(self) -> int:
        return self.tactic_sources

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def add_optimization_profile(self, profile: Profile) -> int:
        if not profile.is_valid():
            self.error("IBuilderConfig::addOptimizationProfile: the profile is not valid")
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_calibration_profile(self, profile: Profile) -> bool:
        self.calibration_profile = profile
        return True

    def get_calibration_profile(self) -> Any:
        return self.calibration_profile

    def set_device_type(self, layer: Layer, device: Any) -> None:
        self.devices[id(layer)] = device

    def get_device_type(self, layer: Layer) -> Any:
        return self.devices.get(id(layer), self.default_device_type)

    def is_device_type_set(self, layer: Layer) -> bool:
        return id(layer) in self.devices

    def reset_device_type(self, layer: Layer) -> None:
        self.devices.pop(id(layer), None)

    def can_run_on_DLA(self, layer: Layer) -> bool:  # noqa: N802
        return self.world.control.dla_cores > 0 and layer.operator in DLA_OPERATORS

    def create_timing_cache(self, blob: memoryview) -> Any:
        try:
            return TimingCache(self.world, self.logger, bytes(blob))
        except ValueError:
            self.error("IBuilderConfig::createTimingCache: the blob is no timing cache")
            return None

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if not self.world.facts.rtx and not ignore_mismatch and not cache.fits():
            return self.refuse("IBuilderConfig::setTimingCache: made by another version or card")
        self.timing_cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.timing_cache

    @property
    def num_compute_capabilities(self) -> int:
        return len(self._capabilities)

    @num_compute_capabilities.setter
    def num_compute_capabilities(self, count: int) -> None:
        nothing = self.world.enum("ComputeCapability", "NONE")
        self._capabilities = (self._capabilities + [nothing] * count)[:count]

    def set_compute_capability(self, capability: Any, index: int) -> bool:
        if not 0 <= index < len(self._capabilities):
            return self.refuse("IBuilderConfig::setComputeCapability: index out of range")
        self._capabilities[index] = capability
        return True

    def get_compute_capability(self, index: int) -> Any:
        if not 0 <= index < len(self._capabilities):
            return self.world.enum("ComputeCapability", "NONE")
        return self._capabilities[index]


DLA_OPERATORS = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "Relu",
        "Sigmoid",
        "Tanh",
        "LeakyRelu",
        "Clip",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Add",
        "Sub",
        "Mul",
        "Max",
        "Min",
        "Concat",
        "Resize",
        "Softmax",
        "Slice",
        "BatchNormalization",
    ]
)


class Profile(Behaviour):
    """Least, usual and largest shape of each dynamic input."""

    kind = "IOptimizationProfile"

    def __init__(self, world: World, logger: Any) -> None:
        super().__init__(world, logger)
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}
        self.values: dict[str, list[list[int]]] = {}
        self.extra_memory_target = 1.0
        self.profile_stream = 0

    def set_shape(self, name: str, least: tuple, usual: tuple, most: tuple) -> None:
        for label, shape in zip(("min", "opt", "max"), (least, usual, most)):
            if any(extent < 0 for extent in shape):
                raise RuntimeError(
                    f"Shape provided for {label} is inconsistent with other shapes."
                )
        self.shapes[name] = (least, usual, most)

    def get_shape(self, name: str) -> Any:
        return list(self.shapes.get(name, ()))

    def set_shape_input(self, name: str, least: list, usual: list, most: list) -> None:
        self.values[name] = [least, usual, most]

    def get_shape_input(self, name: str) -> list[list[int]]:
        return self.values.get(name, [])

    def is_valid(self) -> bool:
        """Tell whether each shape's extents ascend."""
        return all(_ascend(shapes) for shapes in self.shapes.values())


def _ascend(shapes: tuple[tuple[int, ...], ...]) -> bool:
    same_rank = len({len(shape) for shape in shapes}) == 1
    return same_rank and all(a <= b <= c for a, b, c in zip(*shapes))


class TimingCache(Behaviour):
    """What layers' timings are kept in: here, which layers were built."""

    kind = "ITimingCache"

    def __init__(self, world: World, logger: Any, blob: bytes = b"") -> None:
        super().__init__(world, logger)
        self.owner = self._own()
        self.known: set[str] = set()
        if not blob or world.facts.rtx:
            return
        if not blob.startswith(_TIMINGS):
            raise ValueError("no timing cache")
        entry = json.loads(blob[len(_TIMINGS) :])
        self.owner, self.known = entry["owner"], set(entry["known"])

    def _own(self) -> list[str]:
        card = self.world.control.card
        return [self.world.facts.version, card.name if card else ""]

    def fits(self) -> bool:
        """Tell whether it was made by this version on this card."""
        return self.owner == self._own()

    def serialize(self) -> Any:
        text = json.dumps({"owner": self.owner, "known": sorted(self.known)})
        return host_memory(self.world, _TIMINGS + text.encode())

    def combine(self, other: TimingCache, ignore_mismatch: bool) -> bool:
        if other.owner != self.owner and not ignore_mismatch:
            return self.refuse("ITimingCache::combine: made by another version or card")
        self.known |= other.known
        return True

    def reset(self) -> bool:
        self.known.clear()
        return True
