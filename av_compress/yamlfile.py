# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""YAML files, read so that nothing in them is silently ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from av_compress.errors import ConfigError, UsageError


class _DuplicateKeyError(yaml.YAMLError):
    """A mapping has a key twice."""


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, of which YAML's own loader keeps the last without a word."""

    # Before merge keys (<<) are resolved: what they bring in may be overridden.
    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise _DuplicateKeyError(
                    f"the key {key.value!r} is in line {lines[name]} and again in line {line}; "
                    "keep one of them"
                )
            lines[name] = line
        return node


def load_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UsageError: the file is absent or is not YAML, the line is named; or has a key twice.

    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from error
    except _DuplicateKeyError as error:
        raise ConfigError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
