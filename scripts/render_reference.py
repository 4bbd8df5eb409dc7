#!/usr/bin/env python3
# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Write the key-by-key reference of docs/ from the published JSON schemas.

    python scripts/render_reference.py [--check]

With --check nothing is written; exit code 1 says that a page is not what the schemas say.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from markdown_regions import table, update

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from av_compress.cli import replay
from av_compress.compress.emit.kinds import KINDS
from av_compress.compress.lint.differences import DIFFERENCES
from av_compress.compress.lint.rule import Severity, Subject
from av_compress.compress.lint.table import RULES
from av_compress.compress.lint.targets import TARGETS
from av_compress.compress.lint.view import type_name
from av_compress.engines.manifest import (
    REFUSALS,
    ArtefactRecord,
    AttemptRecord,
    CalibrationRecord,
    CheckRecord,
    GateRecord,
    Manifest,
)
from av_compress.engines.measurements import Measurements, SpeedRecord
from av_compress.engines.variants import ChoiceRecord, VariantRecord
from av_compress.validation import load_schema

PAGES = (
    "recipe.md",
    "bundle.md",
    "replay.md",
    "node.md",
    "lint.md",
    "quantization.md",
    "lidar_task.md",
)
FILES = tuple(ROOT / "docs" / name for name in PAGES)
HEADERS = ("key", "allowed", "default", "what it says")

Schema = Mapping[str, Any]
Row = tuple[str, str, str, str]


def reference(schema: Schema, skip: tuple[str, ...] = ()) -> str:
    """Tabulate every key of an object, those of objects inside it by their path."""
    return table(HEADERS, list(rows(schema, "", skip)), left=4)


def rows(schema: Schema, prefix: str, skip: tuple[str, ...]) -> Iterator[Row]:
    required = schema.get("required", ())
    for name, entry in schema.get("properties", {}).items():
        key = f"{prefix}{name}"
        # Empty where only a variant says more; a section without a word is its keys.
        if not entry or (entry.get("type") == "object" and "description" not in entry):
            yield from rows(entry, f"{key}.", skip)
            continue
        yield row(key, entry, name in required)
        if key not in skip:
            yield from rows(entry, f"{key}.", skip)


def row(key: str, entry: Schema, required: bool) -> Row:
    default = "**required**" if required else ""
    if "default" in entry:
        default = code(entry["default"])
    return f"`{key}`", allowed(entry), default, entry.get("description", "")


def code(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`" if text else '`""`'


def allowed(entry: Schema) -> str:
    if "const" in entry:
        return code(entry["const"])
    if "enum" in entry:
        return ", ".join(code(value) for value in entry["enum"])
    types = entry.get("type", "")
    if isinstance(types, list):
        return " or ".join(
            allowed({**entry, "type": kind}) for kind in types if kind != "null"
        ) + (" or null" if "null" in types else "")
    if types == "array":
        inner = allowed(entry["items"]) if "items" in entry else "anything"
        low, high = entry.get("minItems"), entry.get("maxItems")
        count = f" of {low}" if low is not None and low == high else ""
        return f"list{count}: {inner}"
    words = {"string": "text", "object": "section", "boolean": "`true`, `false`"}
    return f"{words.get(types, types)} {bounds(entry)}".strip()


def bounds(entry: Schema) -> str:
    low, high = entry.get("minimum"), entry.get("maximum")
    if low is not None and high is not None:
        return f"{low} to {high}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return ", ".join(f"{sign} {entry[key]}" for key, sign in signs.items() if key in entry)


def variants(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield the kinds of an object whose other keys depend on `type`."""
    for choice in schema["allOf"]:
        yield choice["if"]["properties"]["type"]["const"], choice["then"]


def without_type(schema: Schema) -> Schema:
    """Leave out what a variant's heading says."""
    inner = {name: entry for name, entry in schema["properties"].items() if name != "type"}
    return {**schema, "properties": inner}


def sources() -> str:
    source = load_schema("source")
    found = list(rows({**source, "required": source["required"]}, "", ()))
    for kind, variant in variants(source):
        found += [
            (key, values, default, f"{kind} only. {text}")
            for key, values, default, text in rows(without_type(variant), "", ())
        ]
    return table(HEADERS, found, left=4)


def by_type(section: Schema) -> str:
    """Tabulate the keys of every kind of a section."""
    parts = []
    for kind, variant in variants(section):
        parts += [f"#### `type: {kind}`", reference(without_type(variant))]
    return "\n\n".join(parts)


def parameters() -> str:
    return reference(load_schema("camera_detector")["$defs"]["parameters"])


def multi_parameters() -> str:
    """Tabulate what the node of several cameras has beside the parameters of the other."""
    schema = load_schema("multi_camera_detector")["$defs"]["parameters"]
    known = load_schema("camera_detector")["$defs"]["parameters"]["properties"]
    more = {name: entry for name, entry in schema["properties"].items() if name not in known}
    return reference({**schema, "properties": more})


def records(kinds: Mapping[str, type]) -> str:
    """Tabulate the fields of a file's objects by what their classes say of them."""
    parts = []
    for key, kind in kinds.items():
        documented = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
        found = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", documented, re.MULTILINE)
        parts += [
            f"### {key}",
            table(("key", "what it says"), [(f"`{name}`", text) for name, text in found], left=2),
        ]
    return "\n\n".join(parts)


def refusals() -> str:
    return table(("reason", "what it means"), [(f"`{k}`", v) for k, v in REFUSALS.items()], left=2)


def kinds() -> str:
    """Tabulate the kinds of quantisation."""
    headers = (
        "kind",
        "in the recipe",
        "weights",
        "activations",
        "their scales",
        "opset",
        "runs on",
    )
    found = []
    for kind in KINDS:
        wanted = [f"`emitters: [{kind.emitter}]`", *([f"`{kind.recipe}`"] if kind.recipe else [])]
        scales = "from frames" if kind.calibration else kind.scales
        row = (kind.name, ", ".join(wanted), kind.weights, kind.activations, scales)
        found.append((*row, str(kind.opset), "; ".join(kind.targets)))
    return table(headers, found, left=len(headers))


def conditions() -> str:
    """List the gates of `av-compress replay`, as its --help does."""
    parser = argparse.ArgumentParser()
    replay.add_arguments(parser)
    groups = {group.title: group for group in parser._action_groups}
    found = [
        (f"`{action.option_strings[0]}`", action.help or "")
        for action in groups["gates"]._group_actions
    ]
    return table(("option", "what must hold"), found, left=2)


def targets() -> str:
    """Tabulate what every target reads."""
    found = [
        (
            code(target.name),
            target.title,
            f"{target.opset_min} to {target.opset_max}",
            ", ".join(sorted(type_name(kind) for kind in target.quantised)),
            "yes" if target.half_scales else "no",
            "zero" if target.symmetric else "any",
        )
        for target in TARGETS.values()
    ]
    headers = ("target", "what it is", "opsets", "quantises to", "FP16 scales", "zero points")
    return table(headers, found, left=6)


def target_sources() -> str:
    """Tabulate where every fact of a target is from."""
    found = [
        (code(target.name), code(fact), source)
        for target in TARGETS.values()
        for fact, source in target.sources.items()
    ]
    return table(("target", "fact", "source"), found, left=3)


def severities() -> str:
    found = [(f"**{severity.value}**", severity.meaning) for severity in Severity]
    return table(("severity", "what it says"), found, left=2)


def lint_rules() -> str:
    """Tabulate the rules of lint, by what they look at."""
    headers = ("rule", "severity", "targets", "what is wrong", "consequence", "fix")
    parts = []
    for subject in Subject:
        found = [
            (
                code(rule.id),
                f"**{rule.severity.value}**",
                some_targets(rule.targets),
                rule.title,
                rule.consequence,
                rule.fix,
            )
            for rule in RULES
            if rule.subject is subject
        ]
        parts += [f"### {subject.value.capitalize()}", table(headers, found, left=6)]
    return "\n\n".join(parts)


def differences() -> str:
    """Tabulate where TensorRT for RTX and `tensorrt` differ, and where that is from."""
    found = [(code(one.rule), one.rtx, one.tensorrt, one.source) for one in DIFFERENCES]
    headers = ("rule", "TensorRT for RTX 1.7, tried", "`tensorrt`, not tried", "source")
    return table(headers, found, left=4)


def some_targets(names: frozenset[str]) -> str:
    others = [code(name) for name in TARGETS if name not in names]
    if not others:
        return "all"
    if len(others) < len(names):
        return f"all but {', '.join(others)}"
    return ", ".join(code(name) for name in TARGETS if name in names)


# Where an object stands in manifest.json -> the class that describes it.
RECORDS = {
    "`manifest.json`": Manifest,
    "`calibration`": CalibrationRecord,
    "an entry of `artefacts`": ArtefactRecord,
    "`gate` of an artefact": GateRecord,
    "`attempts` of an artefact": AttemptRecord,
    "`checks` of an attempt": CheckRecord,
    "`choice` of an artefact": ChoiceRecord,
    "an entry of `variants`": VariantRecord,
}
TIMES = {"`measurements.json`": Measurements, "`speed`": SpeedRecord}

REGIONS = {
    "recipe": lambda: reference(
        load_schema("recipe"), ("task", "calibration.source", "gate.source", "precision")
    ),
    "sources": sources,
    "precision": lambda: reference(load_schema("precision")),
    "task": lambda: reference(load_schema("camera_detection_task"), ("head",)),
    "heads": lambda: by_type(load_schema("camera_detection_task")["properties"]["head"]),
    "lidar_task": lambda: reference(
        load_schema("lidar_detection_task"), ("head", "input.encoder")
    ),
    "lidar_encoders": lambda: by_type(
        load_schema("lidar_detection_task")["properties"]["input"]["properties"]["encoder"]
    ),
    "lidar_heads": lambda: by_type(load_schema("lidar_detection_task")["properties"]["head"]),
    "manifest": lambda: records(RECORDS),
    "measurements": lambda: records(TIMES),
    "refusals": refusals,
    "kinds": kinds,
    "conditions": conditions,
    "parameters": parameters,
    "multi_parameters": multi_parameters,
    "targets": targets,
    "target_sources": target_sources,
    "severities": severities,
    "lint_rules": lint_rules,
    "differences": differences,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if outdated")
    args = parser.parse_args()
    return update(FILES, "reference", REGIONS, args.check)


if __name__ == "__main__":
    sys.exit(main())
