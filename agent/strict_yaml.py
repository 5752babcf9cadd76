"""YAML as PyYAML's SafeLoader reads it, but a key given twice is an error. Pure.

Of two `freeze:` in one file the last would be in force, and nobody would know.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

_RAISED = (
    *(yaml.YAMLError, ValueError),
    *(AttributeError, LookupError, ArithmeticError, RecursionError),
)
"""By PyYAML: also, for 2026-13-45 or a tag that does not fit, what its conversions raise."""


class NotYaml(ValueError):
    """It cannot be read as YAML, or says a key twice; says where."""


def read_yaml(content: bytes) -> object:
    """Plain values of one document.

    Raises:
        NotYaml: it is none.
    """
    try:
        return yaml.load(content, Loader=_Loader)  # noqa: S506  a SafeLoader
    except _RAISED as error:
        raise NotYaml(f"not YAML: {error}") from error


class _Loader(yaml.SafeLoader):
    """YAML as SafeLoader reads it, but a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  PyYAML's own signature
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "expected a word as the key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
