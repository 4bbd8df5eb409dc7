# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Condense facts on TensorRT's Python API to what a backend that compiles and runs can use.

Usage: condense_trt_api.py FOLDER, with a JSON file for each version. Writes test/data/trt_api/.

The facts are names, enum members and first signatures. Types of properties, and signatures of
overloaded functions, are taken from the installed `tensorrt_rtx`, whose API is that of TensorRT
11; what it lacks is in the tables below, from NVIDIA's API reference. It is also where the
numbers of enum members come from.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

VERSIONS = {
    "8.6": "8.6.1",
    "10.0": "10.0.1",
    "10.3": "10.3.0",
    "10.13": "10.13.3.9",
    "10.16": "10.16.1.11",
    "11.0": "11.0.0.114",
    "11.4": "11.4.0.106",
    "rtx-1.7": "rtx-1.7.1.116",
}
CLASSES = [
    "Builder",
    "EngineInspector",
    "IAlgorithmSelector",
    "IBuilderConfig",
    "ICudaEngine",
    "IDebugListener",
    "IErrorRecorder",
    "IExecutionContext",
    "IGpuAllocator",
    "IGpuAsyncAllocator",
    "IHostMemory",
    "IInt8Calibrator",
    "IInt8EntropyCalibrator",
    "IInt8EntropyCalibrator2",
    "IInt8LegacyCalibrator",
    "IInt8MinMaxCalibrator",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IOutputAllocator",
    "IPluginRegistry",
    "IProfiler",
    "IProgressMonitor",
    "IRuntimeCache",
    "IRuntimeConfig",
    "ISerializationConfig",
    "IStreamReader",
    "IStreamReaderV2",
    "IStreamWriter",
    "ITensor",
    "ITimingCache",
    "IVersionedInterface",
    "InterfaceInfo",
    "Logger",
    "OnnxParser",
    "OnnxParserRefitter",
    "ParserError",
    "Profiler",
    "Refitter",
    "Runtime",
    "TimingCacheKey",
    "TimingCacheValue",
    "Dims",
    "Dims2",
    "Dims3",
    "Dims4",
    "DimsHW",
    "Permutation",
    "Weights",
]
# Classes that a program derives from, or may.
BASES = {
    "Logger": "ILogger",
    "Profiler": "IProfiler",
    "IGpuAllocator": "IVersionedInterface",
    "IGpuAsyncAllocator": "IGpuAllocator",
    "IInt8EntropyCalibrator": "IInt8Calibrator",
    "IInt8EntropyCalibrator2": "IInt8Calibrator",
    "IInt8LegacyCalibrator": "IInt8Calibrator",
    "IInt8MinMaxCalibrator": "IInt8Calibrator",
    "Dims2": "Dims",
    "Dims3": "Dims",
    "Dims4": "Dims",
    "DimsHW": "Dims2",
}
SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
# Numbers of members that TensorRT for RTX lacks: NvInfer.h and NvInferRuntime.h of 8.6 and 10.
NUMBERS: dict[str, dict[str, dict[str, int]]] = {
    "8": {
        "DataType": {
            "FLOAT": 0,
            "HALF": 1,
            "INT8": 2,
            "INT32": 3,
            "BOOL": 4,
            "UINT8": 5,
            "FP8": 6,
        },
        "ProfilingVerbosity": {"LAYER_NAMES_ONLY": 0, "NONE": 1, "DETAILED": 2},
        "LayerType": {},
        "BuilderFlag": {},
    },
    "10": {
        "BuilderFlag": {
            "FP16": 0,
            "INT8": 1,
            "OBEY_PRECISION_CONSTRAINTS": 9,
            "PREFER_PRECISION_CONSTRAINTS": 10,
            "DIRECT_IO": 11,
            "REJECT_EMPTY_ALGORITHMS": 12,
            "VERSION_COMPATIBLE": 13,
            "EXCLUDE_LEAN_RUNTIME": 14,
            "FP8": 15,
            "ERROR_ON_TIMING_CACHE_MISS": 16,
            "BF16": 17,
            "DISABLE_COMPILATION_CACHE": 18,
            "WEIGHTLESS": 19,
            "STRIP_PLAN": 19,
            "REFIT_IDENTICAL": 20,
            "WEIGHT_STREAMING": 21,
            "INT4": 22,
            "REFIT_INDIVIDUAL": 23,
            "STRICT_NANS": 24,
            "MONITOR_MEMORY": 25,
            "FP4": 26,
            "EDITABLE_TIMING_CACHE": 27,
            "DISTRIBUTIVE_INDEPENDENCE": 28,
        },
    },
}
# Properties that TensorRT for RTX lacks: type, and w where they can be set.
PROPERTIES = {
    "Builder": "max_batch_size int w, platform_has_fast_fp16 bool, platform_has_fast_int8 bool, "
    "platform_has_tf32 bool",
    "IBuilderConfig": "algorithm_selector IAlgorithmSelector w, "
    "int8_calibrator IInt8Calibrator w, max_workspace_size int w, "
    "min_timing_iterations int w, quantization_flags int w, remote_auto_tuning_config str w",
    "ICudaEngine": "device_memory_size int, has_implicit_batch_dimension bool, "
    "max_batch_size int, minimum_weight_streaming_budget int, num_bindings int, "
    "weight_streaming_budget int w",
    "IExecutionContext": "all_shape_inputs_specified bool",
    "ILayer": "precision DataType w, precision_is_set bool",
    "INetworkDefinition": "has_explicit_precision bool, has_implicit_batch_dimension bool",
    "IOutputAllocator": "tensorrt_version int",
    "ITensor": "broadcast_across_batch bool w, dynamic_range object w, location TensorLocation w",
    "IGpuAllocator": "api_language APILanguage, interface_info InterfaceInfo",
    "IGpuAsyncAllocator": "api_language APILanguage, interface_info InterfaceInfo",
}
# Overloads that the facts show as *args, **kwargs, where those of TensorRT for RTX do not hold.
_WEIGHTED = "(input: ITensor, scale: ITensor) -> {0}|(input: ITensor, scale: ITensor, "
OVERLOADS = {
    "Builder.build_serialized_network": "(network: INetworkDefinition, config: IBuilderConfig)"
    " -> IHostMemory",
    "ICudaEngine.binding_is_input": "(index: int) -> bool|(name: str) -> bool",
    "ICudaEngine.get_binding_dtype": "(index: int) -> DataType|(name: str) -> DataType",
    "ICudaEngine.get_binding_shape": "(index: int) -> Dims|(name: str) -> Dims",
    "ICudaEngine.get_location": "(index: int) -> TensorLocation|(name: str) -> TensorLocation",
    "ICudaEngine.get_profile_shape": "(profile_index: int, binding: int) -> list[Dims]"
    "|(profile_index: int, binding: str) -> list[Dims]",
    "ICudaEngine.get_profile_shape_input": "(profile_index: int, binding: int) -> list[list[int]]"
    "|(profile_index: int, binding: str) -> list[list[int]]",
    "INetworkDefinition.add_quantize": _WEIGHTED.format("IQuantizeLayer")
    + "output_type: DataType) -> IQuantizeLayer",
    "INetworkDefinition.add_dequantize": _WEIGHTED.format("IDequantizeLayer")
    + "output_type: DataType) -> IDequantizeLayer",
    "INetworkDefinition.add_fill": "(shape: Dims, op: FillOperation) -> IFillLayer"
    "|(shape: Dims, op: FillOperation, output_type: DataType) -> IFillLayer",
}
_READERS = {
    "10.0": ("stream_reader: IStreamReader",),
    "10.3": ("stream_reader: IStreamReader",),
    "10.13": ("stream_reader: IStreamReader", "stream_reader_v2: IStreamReaderV2"),
    "10.16": ("stream_reader: IStreamReader", "stream_reader_v2: IStreamReaderV2"),
}
_PREFIX = re.compile(
    r"\b(?:tensorrt_rtx_bindings\.tensorrt_rtx|tensorrt_bindings\.tensorrt|tensorrt\.tensorrt"
    r"|tensorrt_rtx|tensorrt|nvinfer1|nvonnxparser)(?:\.|::)(?:v_1_0::)?"
)
_WORDS = (
    (r"typing\.SupportsInt", "int"),
    (r"typing\.SupportsFloat", "float"),
    (r"typing_extensions\.Buffer", "buffer"),
    (r"typing_extensions\.CapsuleType", "capsule"),
    (r"collections\.abc\.Sequence\[|\bList\[", "list["),
    (r"\bTuple\[", "tuple["),
    (r"\bnumpy\.ndarray", "ndarray"),
    (r"<([\w.]+): -?\d+>", r"\1"),
    (r"::", "."),
    (r"\bIParserError\b", "ParserError"),
    (r"\bIEngineInspector\b", "EngineInspector"),
    (r"\bdetail\.accessor<.*?> *$|\bdetail\.accessor<.*", "object"),
    (r"\bhandle\b|\bpybind11\.object\b", "object"),
)


def signature(text: str) -> str:
    """Return `(name: type = default, ...) -> type` without self, in one spelling."""
    text = _PREFIX.sub("", text.strip())
    for pattern, word in _WORDS:
        text = re.sub(pattern, word, text)
    text = text[text.index("(") :]
    return re.sub(r"^\(self(?:: [\w.]+)?(?:, )?", "(", text)


def real_overloads(real: Any, owner: str, name: str) -> list[str]:
    documentation = getattr(getattr(getattr(real, owner, None), name, None), "__doc__", "") or ""
    lines = documentation.splitlines()
    if "(*args, **kwargs)" not in lines[0] if lines else True:
        return []
    found = [re.match(rf"\d+\. {name}(\(.*)", line) for line in lines]
    return [signature(match[1]) for match in found if match]


def real_property(real: Any, owner: str, name: str) -> str | None:
    member = getattr(getattr(real, owner, None), name, None)
    if not isinstance(member, property):
        return None
    text = (member.fget and member.fget.__doc__) or (member.fset and member.fset.__doc__) or ""
    kind = signature(text).rpartition(" -> ")[2].strip()
    if kind in {"None", ""}:
        kind = signature(text).partition("arg1: ")[2].partition(")")[0]
    return f"{kind}{' w' if member.fset else ''}{'' if member.fget else 'o'}"


def table_property(owner: str, name: str) -> str | None:
    for entry in PROPERTIES.get(owner, "").split(", "):
        if entry.startswith(name + " "):
            return entry.removeprefix(name + " ")
    return None


def weak_property(version: str, owner: str, name: str) -> str | None:
    """Return what could be set as long as types were the builder's to choose."""
    weak = version.startswith(("8", "10"))
    return "DataType w" if weak and (owner, name) == ("ITensor", "dtype") else None


def overloads(version: str, real: Any, owner: str, name: str, first: str) -> list[str]:
    key = f"{owner}.{name}"
    if "*args" not in first:
        return [signature(first)]
    if key == "Runtime.deserialize_cuda_engine" and version in _READERS:
        forms = ("serialized_engine: buffer", *_READERS[version])
        return [f"({form}) -> ICudaEngine" for form in forms]
    if key in OVERLOADS:
        return OVERLOADS[key].split("|")
    found = real_overloads(real, owner, name)
    if not found and owner in {"INetworkDefinition", "IPluginRegistry"}:
        # Plugins: not ours.
        return [
            "(*args, **kwargs) -> object",
        ]
    if not found:
        raise SystemExit(f"{version}: no overloads known of {key}")
    return found


def condense_class(version: str, real: Any, owner: str, facts: dict[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, text in sorted(facts.items()):
        if name == "__init__":
            public = "(" in text and not text.startswith(("(no public", "Initialize self"))
            if public:
                made[name] = overloads(version, real, owner, name, text)
        elif name.startswith("_") or name in {*SEVERITIES, "Severity"}:
            continue
        elif name == "MAX_DIMS":
            made[name] = "static int"
        elif text in {"property", ""}:
            made[name] = (
                weak_property(version, owner, name)
                or real_property(real, owner, name)
                or table_property(owner, name)
                or "object w"
            )
        elif text == "staticmethod(function) -> method":
            made[name] = [
                "static (text: str) -> TimingCacheKey",
            ]
        elif "(" in text:
            static = "static " if (owner, name) == ("TimingCacheKey", "parse") else ""
            made[name] = [static + s for s in overloads(version, real, owner, name, text)]
        else:
            raise SystemExit(f"{version}: {owner}.{name} is {text!r}")
    return made


def numbers(version: str, real: Any, name: str, members: list[str]) -> dict[str, int]:
    """Return members' numbers: a table's, else the installed ones, else the order."""
    major = version.split(".", maxsplit=1)[0]
    table = NUMBERS.get(major, {}).get(name)
    known = getattr(getattr(real, name, None), "__members__", {})
    if table is not None and major == "8":
        return {member: table.get(member, index) for index, member in enumerate(members)}
    values = {key: int(value) for key, value in known.items()} | (table or {})
    if all(member in values for member in members):
        return {member: values[member] for member in members}
    return {member: index for index, member in enumerate(members)}


def condense(version: str, facts: dict[str, Any], real: Any) -> dict[str, Any]:
    enums = {
        name: numbers(version, real, name, entry["enum"])
        for name, entry in sorted(facts.items())
        if isinstance(entry, dict) and isinstance(entry.get("enum"), list)
    }
    classes = {
        name: condense_class(version, real, name, facts[name]) for name in CLASSES if name in facts
    }
    rtx = version.startswith("rtx")
    made = {
        "package": "tensorrt_rtx" if rtx else "tensorrt",
        "version": VERSIONS[version].removeprefix("rtx-"),
        "enums": enums,
        "classes": classes,
        "bases": {n: b for n, b in BASES.items() if n in classes and b in classes},
        "aliases": {n: ALIASES[n] for n, kind in sorted(facts.items()) if kind == "DataType"},
        "functions": {name: FUNCTIONS[name] for name in sorted(FUNCTIONS) if name in facts},
    }
    if rtx:
        made["operators_not_read"] = unread(real)
    return made


ALIASES = {
    "bfloat16": "BF16",
    "bool": "BOOL",
    "e8m0": "E8M0",
    "float16": "HALF",
    "float32": "FLOAT",
    "fp4": "FP4",
    "fp8": "FP8",
    "int32": "INT32",
    "int4": "INT4",
    "int64": "INT64",
    "int8": "INT8",
    "uint8": "UINT8",
}
FUNCTIONS = {
    "get_builder_plugin_registry": "(arg0: EngineCapability) -> IPluginRegistry",
    "get_nv_onnx_parser_version": "() -> int",
    "get_plugin_registry": "() -> IPluginRegistry",
    "init_libnvinfer_plugins": "(logger: object, namespace: str) -> bool",
    "shutdown_protobuf_library": "() -> None",
}


def unread(real: Any) -> list[str]:
    """Return ONNX's operators that the installed parser does not read."""
    import onnx

    logger = real.Logger(real.Logger.ERROR)
    parser = real.OnnxParser(real.Builder(logger).create_network(), logger)
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    return sorted(name for name in names if not parser.supports_operator(name))


def main(folder: Path) -> None:
    real = importlib.import_module("tensorrt_rtx")
    target = Path(__file__).parents[1] / "test" / "data" / "trt_api"
    target.mkdir(parents=True, exist_ok=True)
    for version, name in VERSIONS.items():
        facts = json.loads((folder / f"{name}.json").read_text())
        made = json.dumps(condense(version, facts, real), separators=(",", ":"), sort_keys=False)
        # One line a class or enum: differences between versions can be read.
        made = re.sub(r'(?<=[}{])(,?)("[A-Za-z]\w*":\{)', r"\1\n\2", made)
        (target / f"{version}.json").write_text(made + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
