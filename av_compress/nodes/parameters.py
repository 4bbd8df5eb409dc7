# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Node parameters out of their published JSON schema: one place for names, ranges and defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from av_compress.errors import ConfigError
from av_compress.validation import load_schema, validate

_TYPES: Mapping[str, Any] = {
    "string": Parameter.Type.STRING,
    "boolean": Parameter.Type.BOOL,
    "integer": Parameter.Type.INTEGER,
    "number": Parameter.Type.DOUBLE,
    "array": Parameter.Type.STRING_ARRAY,
}


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter as its schema has it; `name` holds dots where the schema nests."""

    name: str
    schema: Mapping[str, Any]

    @property
    def default(self) -> Any:
        """Value where nobody sets another."""
        return self.schema["default"]

    def descriptor(self) -> Any:
        """Return the rcl_interfaces/ParameterDescriptor."""
        return ParameterDescriptor(
            name=self.name,
            type=_TYPES[self.schema["type"]].value,
            description=self.schema["description"],
            additional_constraints=self._constraints(),
            read_only=bool(self.schema.get("readOnly", False)),
            floating_point_range=self._range("number", FloatingPointRange, float),
            integer_range=self._range("integer", IntegerRange, int),
        )

    def _constraints(self) -> str:
        allowed = self.schema.get("enum")
        return f"one of: {', '.join(allowed)}" if allowed else ""

    def _range(self, kind: str, message: Any, number: type) -> list[Any]:
        if self.schema["type"] != kind:
            return []
        return [
            message(
                from_value=number(self.schema["minimum"]), to_value=number(self.schema["maximum"])
            )
        ]


def parameter_specs(schema_name: str) -> tuple[ParameterSpec, ...]:
    """Return the parameters that the schema `schema_name` describes, in its order."""
    return tuple(_walk(load_schema(schema_name)["$defs"]["parameters"], ""))


def declare_parameters(node: Node, schema_name: str) -> None:
    """Declare every parameter of a schema.

    Raises:
        ConfigError: a value given at start has the wrong type or leaves its range.

    """
    for spec in parameter_specs(schema_name):
        try:
            node.declare_parameter(spec.name, spec.default, spec.descriptor())
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(f"parameter {spec.name}: {error}; {_allowed(spec)}") from error


def read_parameters(node: Node, schema_name: str) -> dict[str, Any]:
    """Return the values of every parameter of a schema, nested as the schema nests.

    Raises:
        ConfigError: a value breaks the schema in a way that a descriptor cannot express.

    """
    values: dict[str, Any] = {}
    for spec in parameter_specs(schema_name):
        value = node.get_parameter(spec.name).value
        _insert(values, spec.name, list(value) if spec.schema["type"] == "array" else value)
    validate({"/**": {"ros__parameters": values}}, schema_name, f"parameters of {node.get_name()}")
    return values


def _walk(schema: Mapping[str, Any], prefix: str) -> Iterator[ParameterSpec]:
    for key, value in schema["properties"].items():
        if value["type"] == "object":
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield ParameterSpec(f"{prefix}{key}", value)


def _insert(values: dict[str, Any], name: str, value: Any) -> None:
    *sections, key = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[key] = value


def _allowed(spec: ParameterSpec) -> str:
    schema = spec.schema
    kind = "number with a point, e.g. 1.0" if schema["type"] == "number" else schema["type"]
    limits = f" from {schema['minimum']} to {schema['maximum']}" if "minimum" in schema else ""
    return f"allowed: {kind}{limits}"
