# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Generate typings/tensorrt_api/__init__.pyi from test/data/trt_api/.

The stub is the union of all versions; a comment names the versions that have a member where not
all do. Run `condense_trt_api.py` first where the facts are new.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))

from trt_stand_in.facts import SEVERITIES, VERSIONS, Facts, Property, Signature, load_facts

TARGET = ROOT / "typings" / "tensorrt_api" / "__init__.pyi"
# Null pointers are None in Python, which signatures do not say.
_NULLABLE = {
    "Builder.build_engine",
    "Builder.build_engine_with_config",
    "Builder.build_serialized_network",
    "IBuilderConfig.create_timing_cache",
    "IBuilderConfig.get_timing_cache",
    "ICudaEngine.create_execution_context",
    "ICudaEngine.create_execution_context_without_device_memory",
    "ICudaEngine.serialize",
    "ICudaEngine.serialize_with_config",
    "Runtime.deserialize_cuda_engine",
}
_PARAMETERS = {
    "Dims": "Dims | Sequence[int]",
    "Weights": "Weights | NDArray[Any] | None",
    "buffer": "Buffer",
    "tuple": "tuple[int, ...]",
    "list": "list[int]",
}
_PLAIN = {"int", "float", "str", "bool", "None"}
_OPEN = {"capsule", "object", "ndarray", "tuple"}
_HEAD = '''\
# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT's Python API, of all versions at once. Written by scripts/generate_trt_typings.py."""

import builtins
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, overload

from numpy.typing import NDArray
from typing_extensions import Buffer, Self

'''
_ENUM = """\
    __members__: ClassVar[Mapping[str, Self]]
    def __init__(self, value: int) -> None: ...
    def __int__(self) -> int: ...
    def __index__(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...
"""
# The bindings iterate by index alone, which mypy does not know as iterable.
_VECTOR = """\
    def __iter__(self) -> Iterator[int]: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[int, ...]: ...
    def __setitem__(self, index: int, value: int) -> None: ...
"""
_EXTRA = {
    "Dims": _VECTOR,
    "Permutation": _VECTOR,
    "IHostMemory": "    def __buffer__(self, flags: int, /) -> memoryview: ...\n",
    "INetworkDefinition": "    def __len__(self) -> int: ...\n"
    "    def __getitem__(self, index: int) -> ILayer: ...\n",
}

Found = dict[str, Facts]


def generate() -> str:
    """Return the stub."""
    found = {version: load_facts(version) for version in VERSIONS}
    parts = [_HEAD]
    parts += [_enum(found, name) for name in _names(found, "enums")]
    parts += [_class(found, name) for name in _names(found, "classes")]
    parts.append(_module(found))
    return "\n".join(parts)


def _names(found: Found, what: str) -> list[str]:
    return sorted({name for facts in found.values() for name in getattr(facts, what)})


def _versions(found: Found, having: Iterable[str]) -> str:
    names = list(having)
    return "" if len(names) == len(found) else f"  # {', '.join(names)}"


def _enum(found: Found, name: str, indent: str = "") -> str:
    having = {v: facts.enums[name] for v, facts in found.items() if name in facts.enums}
    members = dict.fromkeys(member for enum in having.values() for member in enum)
    lines = [f"class {name}:{_versions(found, having)}"]
    for member in members:
        owners = [version for version, enum in having.items() if member in enum]
        lines.append(f"    {member}: ClassVar[{name}]{_versions(having, owners)}")
    text = "\n".join(lines) + "\n" + _ENUM
    if name == "DataType":
        text += "    @property\n    def itemsize(self) -> int | float: ...\n"
    return text


def _class(found: Found, name: str) -> str:
    having = {v: facts.classes[name] for v, facts in found.items() if name in facts.classes}
    bases = {facts.bases.get(name) for facts in found.values()} - {None}
    base = f"({bases.pop()})" if bases else ""
    lines = [f"class {name}{base}:{_versions(found, having)}"]
    if name == "ILogger":
        lines += list(_severity())
    for member in sorted({member for members in having.values() for member in members}):
        owners = {v: members[member] for v, members in having.items() if member in members}
        comment = _versions(having, owners)
        first = next(iter(owners.values()))
        if isinstance(first, Property):
            lines += _property(found, member, next(reversed(owners.values())), comment)
        else:
            overloads = [one for each in owners.values() for one in each]
            lines += _method(found, f"{name}.{member}", overloads, comment)
    extra = _EXTRA.get(name, "")
    if len(lines) == 1 and not extra:
        lines.append("    ...")
    return "\n".join(lines) + "\n" + extra


def _severity() -> Iterator[str]:
    yield "    class Severity:"
    for name in SEVERITIES:
        yield f"        {name}: ClassVar[ILogger.Severity]"
    yield from (f"    {line}" for line in _ENUM.splitlines())
    for name in SEVERITIES:
        yield f"    {name}: ClassVar[ILogger.Severity]"


def _property(found: Found, name: str, what: Property, comment: str) -> Iterator[str]:
    kind = _result(found, what.kind)
    if kind in _names(found, "classes") and what.writable and kind != "Dims":
        kind += " | None"
    if what.writable:
        yield f"    {name}: {kind}{comment}"
        return
    yield "    @property"
    yield f"    def {name}(self) -> {kind}: ...{comment}"


def _method(found: Found, label: str, overloads: list[Signature], comment: str) -> Iterator[str]:
    """Write a method; overloads that take the same names become one."""
    name = label.partition(".")[2]
    forms: dict[tuple[str, ...], list[Signature]] = {}
    for one in overloads:
        forms.setdefault(tuple(p.name for p in one.parameters), []).append(one)
    several = len(forms) > 1
    for same in forms.values():
        if several:
            yield "    @overload"
        if same[0].static:
            yield "    @staticmethod"
        taken, made = _arguments(found, same), _returns(found, label, same)
        yield f"    def {name}({taken}) -> {made}: ...{comment}"


def _arguments(found: Found, same: list[Signature]) -> str:
    parts = [] if same[0].static else ["self"]
    if same[0].open:
        return ", ".join([*parts, "*args: Any", "**kwargs: Any"])
    optional = False
    for position, parameter in enumerate(same[0].parameters):
        kinds = dict.fromkeys(_parameter(found, one.parameters[position].kind) for one in same)
        kind = " | ".join(kinds)
        if parameter.default == "None" and "None" not in kind:
            kind += " | None"
        # The bindings have parameters without a default behind one with: by name alone.
        if optional and parameter.default is None:
            parts.append("*") if "*" not in parts else None
        optional = optional or parameter.default is not None
        parts.append(f"{parameter.name}: {kind}{' = ...' if parameter.default else ''}")
    return ", ".join(parts)


def _returns(found: Found, label: str, same: list[Signature]) -> str:
    kinds = dict.fromkeys(_result(found, one.returns) for one in same)
    text = "Any" if "Any" in kinds else " | ".join(kinds)
    return f"{text} | None" if label in _NULLABLE else text


def _parameter(found: Found, kind: str) -> str:
    if kind.startswith("list["):
        return f"Sequence[{_parameter(found, kind[5:-1])}]"
    return _PARAMETERS.get(kind) or _result(found, kind)


def _result(found: Found, kind: str) -> str:
    if kind.startswith("list["):
        return f"list[{_result(found, kind[5:-1])}]"
    if kind.startswith("tuple[") or kind in _OPEN:
        return "Any"
    known = {*_names(found, "classes"), *_names(found, "enums"), "ILogger.Severity", *_PLAIN}
    if kind == "buffer":
        return "Buffer"
    return kind if kind in known else "Any"


def _module(found: Found) -> str:
    """Write the protocol of the module itself. Its attributes have the classes' own names."""
    names = [*_names(found, "enums"), *_names(found, "classes")]
    lines = [f"_{name} = {name}" for name in names]
    lines += ["", "class TensorRT(Protocol):", "    __version__: str"]
    for name in names:
        owners = [v for v, f in found.items() if name in f.enums or name in f.classes]
        lines.append(f"    {name}: type[_{name}]{_versions(found, owners)}")
    for name in _names(found, "functions"):
        owners = {v: f.functions[name] for v, f in found.items() if name in f.functions}
        text = next(iter(_method(found, f".{name}", [*owners.values()], _versions(found, owners))))
        lines.append(_inside_module(text, names))
    for name in _names(found, "aliases"):
        owners = [v for v, f in found.items() if name in f.aliases]
        lines.append(f"    {name}: _DataType{_versions(found, owners)}")
    return "\n".join(lines) + "\n"


def _inside_module(text: str, names: Iterable[str]) -> str:
    """Return a method's line with names that mean something else inside the module."""
    for name in names:
        text = text.replace(f" {name}", f" _{name}") if f" {name}" in text else text
    return text.replace("-> bool", "-> builtins.bool")


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(generate())
