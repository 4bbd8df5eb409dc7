#!/usr/bin/env python3
# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Generate vision_msgs and tf2_msgs into the active virtual environment, without ament or CMake.

The ROS packages on PyPI have neither. This script writes the message definitions from their
published fields, runs ROS's own generators over them, compiles the results with the C and C++
compiler, and proves by the type hash that a node elsewhere would take them for the real ones.
A package that can be imported (a sourced ROS, or an earlier run) is left as it is.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from av_compress.data.message_definitions import TF2_MSGS, VISION_MSGS

DEPENDENCIES = ("std_msgs", "geometry_msgs", "builtin_interfaces")


@dataclass(frozen=True)
class Package:
    """A package of messages.

    Attributes:
        name: of the package.
        version: the published one whose messages these are.
        definitions: full name of a message -> its fields.
        hashes: message -> the first 16 hexadecimal digits of its published RIHS01 hash.

    """

    name: str
    version: str
    definitions: Mapping[str, str]
    hashes: Mapping[str, str]


PACKAGES = (
    Package(
        "vision_msgs",
        "4.1.1",
        VISION_MSGS,
        {
            "BoundingBox2D": "008eacbb0cf8f26e",
            "BoundingBox3D": "bbb73a65c163d7f9",
            "ObjectHypothesisWithPose": "41c12344c0396c48",
            "Detection2D": "0d12b69df5c593b3",
            "Detection2DArray": "214274120007f4a6",
            "Detection3D": "ddd703be132ab0b6",
            "Detection3DArray": "793f5eab9595ac1c",
            "LabelInfo": "3d37df4015cdf660",
            "Classification": "f74db28d0eaef3af",
        },
    ),
    Package("tf2_msgs", "0.36", TF2_MSGS, {"TFMessage": "e369d0f05a23ae52"}),
)
PREFIX = Path(sys.prefix)
SITE = Path(sysconfig.get_paths()["purelib"])
# What every typesupport library is linked against, besides those of the messages' dependencies.
RUNTIME = ("rosidl_runtime_c", "rcutils")


def main() -> int:
    absent = [package for package in PACKAGES if not already_there(package)]
    if not absent:
        print(f"{' and '.join(one.name for one in PACKAGES)} can be imported; nothing to do")
        return 0
    if sys.prefix == sys.base_prefix:
        print("not in a virtual environment: nothing is written there", file=sys.stderr)
        return 1
    os.environ["AMENT_PREFIX_PATH"] = str(PREFIX)
    for package in absent:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            generate(work, package)
            check_hashes(work, package)
            build(work, package.name)
            install(work, package.name)
        print(f"{package.name} {package.version} generated into {PREFIX.name}")
    return 0


def already_there(package: Package) -> bool:
    try:
        module = importlib.import_module(f"{package.name}.msg")
        # Loads the compiled part too, which an interrupted run may lack.
        witness = getattr(module, next(iter(package.hashes)))
        type(witness).__import_type_support__()
    except Exception:  # Whatever is wrong with it, it is made anew.
        shutil.rmtree(SITE / package.name, ignore_errors=True)
        return False
    return witness._TYPE_SUPPORT is not None


def generate(work: Path, package: Package) -> None:
    """Run ROS's generators over the message definitions; all output goes to one tree."""
    from rosidl_adapter.msg import convert_msg_to_idl
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_generator_type_description.cli import HashTypeDescription
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    out = work / package.name
    (out / "msg").mkdir(parents=True)
    names = []
    for full_name, text in package.definitions.items():
        name = full_name.rsplit("/", 1)[1]
        (out / "msg" / f"{name}.msg").write_text(textwrap.dedent(text))
        convert_msg_to_idl(out, package.name, Path("msg") / f"{name}.msg", out / "msg")
        names.append(f"{out}:msg/{name}.idl")
    includes = [str(PREFIX / "share" / name) for name in DEPENDENCIES]
    hashes = HashTypeDescription("hash").generate_type_hashes(package.name, names, includes, out)
    GenerateC("c").generate(package.name, names, includes, out, hashes)
    supports = ["rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c"]
    GenerateFastRTPSCTypesupport("f").generate(package.name, names, includes, out)
    GenerateIntrospectionCTypesupport("i").generate(package.name, names, includes, out)
    dispatch = GenerateCTypesupport("t", typesupport_implementations=supports)
    dispatch.generate(package.name, names, includes, out)
    python = GeneratePython("p", typesupport_implementations=["rosidl_typesupport_c", *supports])
    python.generate(package.name, names, includes, out)


def check_hashes(work: Path, package: Package) -> None:
    """Compare the type hashes with those of the published package."""
    for name, expected in package.hashes.items():
        described = json.loads((work / package.name / "msg" / f"{name}.json").read_text())
        found = described["type_hashes"][0]["hash_string"]
        if not found.startswith(f"RIHS01_{expected}"):
            raise SystemExit(f"{name}: type hash {found}, expected {expected}...")


def build(work: Path, package: str) -> None:
    """Compile the libraries, then the Python extensions that are linked against them."""
    out = work / package
    detail, lib = out / "msg" / "detail", work / "lib"
    lib.mkdir()
    base = sorted(detail.glob("*__functions.c")) + sorted(detail.glob("*__description.c"))
    base += [p for p in detail.glob("*__type_support.c") if "introspection" not in p.name]
    # The generators put files of the same stem beside each other: introspection writes
    # detail/x__type_support.c, C's own generator only headers of that name.
    generated = {
        "rosidl_generator_c": [p for p in base if not _is_introspection(p)],
        "rosidl_typesupport_fastrtps_c": sorted(detail.glob("*__type_support_c.cpp")),
        "rosidl_typesupport_introspection_c": [
            p for p in sorted(detail.glob("*__type_support.c")) if _is_introspection(p)
        ],
        "rosidl_typesupport_c": sorted((out / "msg").glob("*__type_support.cpp")),
        "rosidl_generator_py": sorted((out / "msg").glob("_*_s.c")),
    }
    for kind, sources in generated.items():
        needed = _needed(package, kind, lib)
        _link(lib / f"lib{package}__{kind}.so", _compile(work, kind, sources), needed)
    for source in sorted(out.glob("_*.ep.*.c")):
        kind = source.name.split(".")[-2]
        libraries = [
            lib / f"lib{package}__{name}.so"
            for name in ("rosidl_generator_py", "rosidl_generator_c", kind, "rosidl_typesupport_c")
        ]
        target = out / f"{package}_s__{kind}.so"
        _link(target, _compile(work, kind, [source]), [*libraries, *_needed(package, kind, lib)])


def _is_introspection(path: Path) -> bool:
    return "rosidl_typesupport_introspection_c" in path.read_text()


def _needed(package: str, kind: str, lib: Path) -> list[Path]:
    names = [f"{other}__{kind}" for other in DEPENDENCIES]
    names += [f"{other}__rosidl_generator_c" for other in DEPENDENCIES]
    own = [] if kind == "rosidl_generator_c" else [lib / f"lib{package}__rosidl_generator_c.so"]
    names += [*RUNTIME]
    if kind.startswith("rosidl_typesupport"):
        names.append(kind)
    if kind == "rosidl_typesupport_fastrtps_c":
        names += ["fastcdr", "rosidl_typesupport_fastrtps_cpp", "rmw"]
    found = [PREFIX / "lib" / f"lib{name}.so" for name in names]
    return own + [path for path in found if path.exists()]


def _compile(work: Path, kind: str, sources: Sequence[Path]) -> list[Path]:
    objects = work / "obj" / kind
    objects.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda source: _compile_one(work, objects, source), sources))


def _compile_one(work: Path, objects: Path, source: Path) -> Path:
    target = objects / f"{source.name}.o"
    cpp = source.suffix == ".cpp"
    # Values before definitions of their own, and code size over speed: this runs once.
    command = [_compiler(cpp), "-c", "-O1", "-fPIC", "-w", "-std=c++17" if cpp else "-std=c11"]
    command += [f"-I{work}", f"-I{PREFIX}/include"]
    command += [f"-I{sysconfig.get_paths()['include']}"]
    if source.name.startswith("_"):
        numpy = importlib.import_module("numpy")
        command.append(f"-I{numpy.get_include()}")
    command += [f"-I{path}" for path in (PREFIX / "include").iterdir() if path.is_dir()]
    _run([*command, str(source), "-o", str(target)])
    return target


def _link(target: Path, objects: Sequence[Path], libraries: Sequence[Path]) -> None:
    origin = "$ORIGIN" if target.name.startswith("lib") else "$ORIGIN/../../../../lib"
    # With a soname, what links against it remembers its name and not where it was built.
    command = [_compiler(True), "-shared", f"-Wl,-soname,{target.name}"]
    command += [*map(str, objects), "-o", str(target)]
    command += [*map(str, libraries), f"-Wl,-rpath,{origin}"]
    _run(command)


def _compiler(cpp: bool) -> str:
    name = os.environ.get("CXX" if cpp else "CC", "g++" if cpp else "gcc")
    if shutil.which(name) is None:
        raise SystemExit(f"no compiler '{name}' found; install it: apt-get install g++")
    return name


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def install(work: Path, package: str) -> None:
    """Copy libraries, the Python package and the share folder; the package last, as a whole."""
    for library in (work / "lib").iterdir():
        shutil.copy2(library, PREFIX / "lib" / library.name)
    share = PREFIX / "share" / package / "msg"
    share.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.msg", "*.idl", "*.json"):
        for path in (work / package / "msg").glob(pattern):
            shutil.copy2(path, share / path.name)
    marker = PREFIX / "share" / "ament_index" / "resource_index" / "packages" / package
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    staged = SITE / f".{package}.new"
    shutil.rmtree(staged, ignore_errors=True)
    (staged / "msg").mkdir(parents=True)
    source = work / package
    for path in (*source.glob("*.so"), *source.glob("*.py")):
        shutil.copy2(path, staged / path.name)
    for path in (source / "msg").glob("*.py"):
        shutil.copy2(path, staged / "msg" / path.name)
    (staged / "__init__.py").touch()
    shutil.rmtree(SITE / package, ignore_errors=True)
    staged.rename(SITE / package)


if __name__ == "__main__":
    sys.exit(main())
