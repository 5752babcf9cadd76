"""What each command prints with `-o json`, kept so that a program can rely on it.

`python -m scripts.output_shapes` writes `tests/unit/cli/output_shapes.txt` again; a test compares.
A line that is gone from it, or has another type, breaks whoever reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from cli.main import main
from cli.output import OutputShape, shape_of

KEPT = Path(__file__).resolve().parents[1] / "tests/unit/cli/output_shapes.txt"


def commands(path: str = "", group: click.Group = main) -> Iterator[tuple[str, click.Command]]:
    """Every command by its words."""
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, "it was listed"
        words = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands(words, command)
        else:
            yield words, command


def shapes() -> Iterator[tuple[str, OutputShape]]:
    """Every command that prints for programs, and what."""
    for path, command in commands():
        if (shape := shape_of(command)) is not None:
            yield path, shape


def lines() -> Iterator[str]:
    """A line for each command, and for each field of the types it prints."""
    found = dict(sorted(shapes()))
    for path, shape in found.items():
        yield f"{path}: {said(shape)}"
    _, types = msgspec.json.schema_components(
        [kind for shape in found.values() for kind in shape.kinds]
    )
    for name, schema in sorted(types.items()):
        if "enum" in schema:
            yield f"{name}: {_short(schema)}"
        needed = schema.get("required", ())
        for field, of in sorted(schema.get("properties", {}).items()):
            yield f"{name}.{field}: {_short(of)}{'' if field in needed else ', may be absent'}"


def said(shape: OutputShape) -> str:
    """Its types, as they are written here and in the reference."""
    schemas, _ = msgspec.json.schema_components(shape.kinds)
    one = " or ".join(map(_short, schemas))
    return f"one after another, {one}" if shape.is_stream else one


def _short(schema: dict[str, Any]) -> str:  # noqa: PLR0911  a table
    match schema:
        case {"$ref": str(name)}:
            return name.rpartition("/")[2]
        case {"anyOf": list(parts)}:
            return " or ".join(map(_short, parts))
        case {"enum": list(values)}:
            return " or ".join(f"'{value}'" for value in values)
        case {"type": "array", "prefixItems": list(items)}:
            return f"[{', '.join(map(_short, items))}]"
        case {"type": "array"}:
            return f"[{_short(schema.get('items', {}))}, ...]"
        case {"type": "object"}:
            of = schema.get("additionalProperties", {})
            return f"{{name: {_short(of if isinstance(of, dict) else {})}}}"
        case {"type": str(kind)}:
            return str(schema.get("format", kind))
    return "anything"


def structs(kinds: Iterable[Any]) -> dict[str, type[msgspec.Struct]]:
    """Every class that these types are made of, by name."""
    found: dict[str, type[msgspec.Struct]] = {}
    left: list[Any] = list(msgspec.inspect.multi_type_info(kinds))
    while left:
        info = left.pop()
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls.__name__ not in found:
                found[info.cls.__name__] = info.cls
                left += [field.type for field in info.fields]
            continue
        inner = (getattr(info, name, None) for name in ("item_type", "key_type", "value_type"))
        left += [one for one in inner if one is not None]
        left += [*getattr(info, "item_types", ()), *getattr(info, "types", ())]
    return dict(sorted(found.items()))


if __name__ == "__main__":
    KEPT.write_text("".join(f"{line}\n" for line in lines()), encoding="utf-8")
