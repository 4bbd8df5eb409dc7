# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Validation against the published JSON schemas, with errors a user can act upon."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError, relevance

from av_compress.errors import ConfigError

_SUFFIX = ".schema.json"
_SHOWN_LENGTH = 60


def _is_integer(_: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: Any, value: Any) -> bool:
    return _is_integer(_, value) or (isinstance(value, float) and math.isfinite(value))


_VALIDATOR: Any = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": _is_integer, "number": _is_number}
    ),
)


@cache
def load_schema(name: str) -> dict[str, Any]:
    """Return the published schema `name`, with references to the other schemas resolved.

    Raises:
        FileNotFoundError: there is no such schema in the package.

    """
    schema: dict[str, Any] = _resolve(_read(name))
    return schema


def validate(
    value: Any,
    schema_name: str,
    where: str,
    root: str = "",
    named: Callable[[str], str] = str,
) -> None:
    """Check `value` against the published schema `schema_name`.

    Stricter than JSON Schema in two points: 3.0 is no integer, and NaN is no number.

    Args:
        value: JSON values, as parsed from YAML or JSON.
        schema_name: a schema of `av_compress/schema`, without `.schema.json`.
        where: the file or section, to begin the message with; empty: the keys say it.
        root: the key under which `value` stands in its file, to begin key paths with.
        named: what people call the key at a path such as `topics[0]`.

    Raises:
        ConfigError: names every key that is wrong, its value, and what is allowed.

    """
    validator = _VALIDATOR(load_schema(schema_name))
    errors = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.path)))
    if errors:
        reasons = [_explain(_deepest(error), root, named) for error in errors]
        raise ConfigError(f"{where}: " * bool(where) + "; ".join(reasons))


def _read(name: str) -> Any:
    path = resources.files("av_compress.schema") / f"{name}{_SUFFIX}"
    return json.loads(path.read_text(encoding="utf-8"))


def _resolve(node: Any) -> Any:
    """Replace references to sibling files, or to a part of one, by what is there.

    None of them refers back.
    """
    if isinstance(node, list):
        return [_resolve(item) for item in node]
    if not isinstance(node, dict):
        return node
    target = node.get("$ref")
    file, _, pointer = target.partition("#") if isinstance(target, str) else ("", "", "")
    if file.endswith(_SUFFIX):
        included = _resolve(_at(_read(file.removesuffix(_SUFFIX)), pointer))
        included = {key: item for key, item in included.items() if key not in {"$schema", "$id"}}
        return {**included, **{key: _resolve(item) for key, item in node.items() if key != "$ref"}}
    return {key: _resolve(item) for key, item in node.items()}


def _at(node: Any, pointer: str) -> Any:
    """Return what a JSON pointer (RFC 6901, without escapes) leads to."""
    for key in pointer.split("/")[1:]:
        node = node[key]
    return node


def _deepest(error: ValidationError) -> ValidationError:
    """Step from a failed anyOf/oneOf to the failure in the alternative that came closest."""
    while error.context and error.validator in {"anyOf", "oneOf"}:
        error = max(error.context, key=lambda inner: (len(inner.path), relevance(inner)))
    return error


def _explain(error: Any, root: str, named: Callable[[str], str]) -> str:
    key = named(_key_path(error.absolute_path, root))
    name = str(error.validator)
    if name == "additionalProperties":
        return _unknown_keys(error, key)
    if name == "required":
        missing = [item for item in error.validator_value if item not in error.instance]
        return f"{key}: required key {_names(missing)} is missing"
    return f"{key}: {_show(error.instance)} is not allowed; allowed: {_allowed(error)}"


def _unknown_keys(error: Any, key: str) -> str:
    known = sorted(error.schema.get("properties", {}))
    unknown = sorted(set(error.instance) - set(known), key=str)
    near = difflib.get_close_matches(str(unknown[0]), known, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"{key}: unknown key {_names(unknown)}; allowed: {', '.join(known)}{hint}"


_LIMITS = {
    "minimum": ">= {}",
    "maximum": "<= {}",
    "exclusiveMinimum": "> {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "with at least {} key",
    "pattern": "text that matches {}",
}


def _allowed(error: Any) -> str:
    schema = error.schema
    if error.validator == "enum":
        return ", ".join(map(_show, error.validator_value))
    if error.validator == "const":
        return _show(error.validator_value)
    if error.validator == "uniqueItems":
        return "items that differ"
    if error.validator == "pattern" and "title" in schema:
        # Not everybody reads patterns.
        return str(schema["title"])
    words = []
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        words.append(" or ".join(kinds))
    words += [text.format(schema[name]) for name, text in _LIMITS.items() if name in schema]
    return " ".join(words) or error.message


def _key_path(path: Iterable[str | int], root: str) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return (root + text).removeprefix(".") or "(top level)"


def _names(keys: Iterable[Any]) -> str:
    return ", ".join(f"'{key}'" for key in keys)


def _show(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 4]} ..."
