# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters: schema, parameter file and declared descriptors say the same."""

import helpers_node
import jsonschema
import pytest
import yaml

helpers_node.require_ros()

import rclpy
from rclpy.parameter import Parameter

from av_compress.errors import ConfigError
from av_compress.nodes.parameters import declare_parameters, parameter_specs, read_parameters
from av_compress.validation import load_schema, validate

SCHEMA, MULTI = "camera_detector", "multi_camera_detector"
SCHEMAS = (SCHEMA, MULTI, "lidar_detector")
SPECS = parameter_specs(SCHEMA)
ALL = {f"{name}: {spec.name}": spec for name in SCHEMAS for spec in parameter_specs(name)}


@pytest.fixture(scope="module", autouse=True)
def _ros():
    with helpers_node.ros_context():
        yield


@pytest.fixture
def make_node():
    nodes = []

    def make(**overrides):
        node = rclpy.create_node(
            "subject",
            parameter_overrides=[Parameter(key, value=value) for key, value in overrides.items()],
        )
        nodes.append(node)
        declare_parameters(node, SCHEMA)
        return node

    yield make
    for node in nodes:
        node.destroy_node()


def flatten(values: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def parameter_file(schema: str) -> dict:
    path = helpers_node.ROOT / f"config/{schema}.param.yaml"
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_schema_is_a_schema(schema):
    jsonschema.Draft202012Validator.check_schema(load_schema(schema))


def test_the_node_of_several_cameras_has_every_parameter_of_the_other():
    more = {spec.name: spec.schema for spec in parameter_specs(MULTI)}
    assert {spec.name: spec.schema for spec in SPECS}.items() <= more.items()
    assert set(more) - {spec.name for spec in SPECS} == {"cameras", "arrival_window_ms"}


@pytest.mark.parametrize("spec", ALL.values(), ids=ALL.keys())
def test_every_parameter_says_what_it_is(spec):
    assert spec.schema["description"].endswith((".", "DIR"))
    jsonschema.validate(spec.default, dict(spec.schema))
    if spec.schema["type"] in {"integer", "number"}:
        assert spec.schema["minimum"] < spec.schema["maximum"]


def test_the_node_of_clouds_speaks_of_no_images():
    for spec in parameter_specs("lidar_detector"):
        assert "image" not in spec.schema["description"].lower(), spec.name


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_parameter_file_holds_every_parameter_with_its_default(schema):
    specs = parameter_specs(schema)
    content = parameter_file(schema)
    validate(content, schema, f"{schema}.param.yaml")
    held = flatten(content["/**"]["ros__parameters"])
    assert held == {spec.name: spec.default for spec in specs}
    assert {name: type(value) for name, value in held.items()} == {
        spec.name: type(spec.default) for spec in specs
    }


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_parameter_file_passes_through_ros(schema):
    path = helpers_node.ROOT / f"config/{schema}.param.yaml"
    node = rclpy.create_node("from_file", cli_args=["--ros-args", "--params-file", str(path)])
    declare_parameters(node, schema)
    assert flatten(read_parameters(node, schema)) == {
        spec.name: spec.default for spec in parameter_specs(schema)
    }
    node.destroy_node()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_descriptor_says_what_the_schema_says(make_node, spec):
    descriptor = make_node().describe_parameter(spec.name)
    schema = spec.schema
    assert descriptor.description == schema["description"]
    assert descriptor.read_only == schema["readOnly"]
    ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
    limits = [(schema["minimum"], schema["maximum"])] if "minimum" in schema else []
    assert [(part.from_value, part.to_value) for part in ranges] == limits
    for allowed in schema.get("enum", []):
        assert allowed in descriptor.additional_constraints


def test_values_given_at_start_are_read_nested(make_node):
    node = make_node(
        **{"onnxruntime.intra_op_threads": 3, "deadline_ms": 12.5, "bundle_path": "/bundles/a"}
    )
    values = read_parameters(node, SCHEMA)
    assert values["onnxruntime"]["intra_op_threads"] == 3
    assert values["onnxruntime"]["providers"] == ["CPUExecutionProvider"]
    assert values["deadline_ms"] == 12.5
    assert values["bundle_path"] == "/bundles/a"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("onnxruntime.intra_op_threads", -1, "integer from 0 to 256"),
        ("onnxruntime.intra_op_threads", "many", "integer from 0 to 256"),
        ("deadline_ms", -0.5, "number with a point, e.g. 1.0 from 0 to 60000"),
        ("deadline_ms", 100, "number with a point, e.g. 1.0"),
        ("diagnostics.warn_drop_ratio", 1.5, "from 0 to 1"),
        ("bundle_path", 7, "allowed: string"),
    ],
)
def test_a_wrong_value_at_start_names_parameter_value_and_what_is_allowed(
    make_node, name, value, words
):
    with pytest.raises(ConfigError) as caught:
        make_node(**{name: value})
    message = str(caught.value)
    assert name in message
    assert str(value) in message
    assert words in message


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("backend", "tensorflow", "onnxruntime"),
        ("onnxruntime.providers", [""], "at least 1 characters"),
    ],
)
def test_what_a_descriptor_cannot_say_is_refused_when_read(make_node, name, value, words):
    node = make_node(**{name: value})
    with pytest.raises(ConfigError) as caught:
        read_parameters(node, SCHEMA)
    assert name in str(caught.value)
    assert words in str(caught.value)


def test_a_read_only_parameter_stays_as_it_is(make_node):
    node = make_node()
    (result,) = node.set_parameters([Parameter("deadline_ms", value=5.0)])
    assert not result.successful
    assert node.get_parameter("deadline_ms").value == 200.0
