"""Every key of the files that people write, with its type and default: from the types."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from agent.settings import AgentFile
from gateway.config_file import GatewayFile
from gateway.file_values import Duration, Percent, Size

FILES = {"gateway.yaml": GatewayFile, "agent.yaml": AgentFile}


def rows(kind: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, type and default of each key at any depth; no default: it has to be there."""
    for field in msgspec.structs.fields(kind):
        key = f"{path}{field.encode_name}"
        inner, is_list = _struct_in(field.type)
        if inner is None:
            yield key, _words(field.type), _default(field)
            continue
        yield key, "list" if is_list else "mapping", "needed" if field.required else "absent"
        yield from rows(inner, f"{key}[]." if is_list else f"{key}.")


def _struct_in(kind: Any) -> tuple[type[msgspec.Struct] | None, bool]:
    """The keys inside, and whether there is a list of them."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind, False
    if get_origin(kind) is list:
        inner, _ = _struct_in(get_args(kind)[0])
        return inner, inner is not None
    if get_origin(kind) in (Union, UnionType):
        for part in get_args(kind):
            inner, is_list = _struct_in(part)
            if inner is not None and not _is_secret(inner):
                return inner, is_list
    return None, False


def _is_secret(kind: type[msgspec.Struct]) -> bool:
    """`{env: NAME}`: where a value may stand, or be named."""
    return [field.name for field in msgspec.structs.fields(kind)] == ["env"]


def _words(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in get_args(kind) if one is not type(None))
    if origin in (list, tuple, frozenset):
        return f"list of {_words(get_args(kind)[0])}"
    if origin is dict:
        return f"mapping to {_words(get_args(kind)[1])}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "{env: NAME}"
    known = {"str": "text", "int": "number", "float": "number", "bool": "true or false"}
    name = getattr(kind, "__name__", str(kind))
    return known.get(name, name.lower())


def _default(field: Any) -> str:  # noqa: PLR0911  a table
    if field.required:
        return "needed"
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        value = field.default
    match value:
        case None | [] | {} | () | "":
            return "absent"
        case bool():
            return str(value).lower()
        case Duration():
            return f"{value.seconds:g}s"
        case Percent():
            return f"{value.percent:g}%"
        case Size():
            return f"{value.bytes:,} bytes"
        case frozenset() | tuple() | list():
            return ", ".join(sorted(map(str, value)))
        case _:
            return str(value)
