"""Reference pages of the documentation, made from the code: nobody keeps them true by hand.

`pages()` gives the whole text of each; `mkdocs.yml` names this file as a hook, which adds them to
the site. What says nothing about itself is an error, so that nothing stays undocumented.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from types import ModuleType
from typing import Any

import click
import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from agent import openapi as agent_openapi
from agent.metrics import Metrics as AgentMetrics
from cli.main import main
from gateway import openapi as gateway_openapi
from gateway.counts import NOTHING
from gateway.metrics import Metrics as GatewayMetrics
from gateway.plans import PlanBook
from gateway.recorder.completeness import CompletenessGauge
from gateway.recorder.metrics import RecorderMetrics
from mlops.config.names import SETTINGS
from mlops.contracts import api, plan, record, release
from mlops.feature_store import schema, tables
from mlops.feature_store.completeness import Completeness
from mlops.serving.metrics import Metrics as ServerMetrics
from scripts import file_keys, output_shapes

MADE = "<!-- made by scripts/reference.py -->\n\n"


class Undocumented(ValueError):
    """Something that people use says nothing about itself."""


def pages() -> dict[str, str]:
    """Every generated page by its path below docs/."""
    made = {
        "reference/cli.md": command_line(),
        "reference/output.md": output(),
        "reference/settings.md": settings(),
        "reference/files.md": files(),
        "reference/metrics.md": metrics(),
        "reference/api.md": apis(),
        "reference/schema.md": columns(),
    }
    return {path: MADE + text for path, text in made.items()}


# ---- command line ------------------------------------------------------------------------------


def command_line() -> str:
    """Each command's own help."""
    parts = ["# Command line\n", "What `rag-mlops COMMAND --help` prints.\n"]
    for path, command, context in commands():
        if not command.help:
            raise Undocumented(f"rag-mlops {path} has no help")
        parts.append(f"## {path or 'rag-mlops'}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command and group below `rag-mlops`, with its words."""
    yield from _below("", main, click.Context(main, info_name="rag-mlops", terminal_width=88))


def _below(
    path: str, command: click.Command, context: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, "it was listed"
            inside = click.Context(inner, parent=context, info_name=name, terminal_width=88)
            yield from _below(f"{path} {name}".strip(), inner, inside)


def output() -> str:
    """What commands print for programs."""
    found = dict(output_shapes.shapes())
    silent = [
        path
        for path, command, _ in commands()
        if path not in found and any("--output" in one.opts for one in command.params)
    ]
    if silent:
        raise Undocumented(f"what {', '.join(silent)} prints with -o json")
    rows = [(f"`{path}`", f"`{output_shapes.said(shape)}`") for path, shape in found.items()]
    parts = [
        "# Output for programs\n",
        "What each command prints with `-o json`, and with `-o yaml` likewise. Fields are added, "
        "and never renamed or taken away. `[A, ...]` is a list, `{name: A}` an object by name; "
        "*one after another* is a line of JSON each, or a document of YAML.\n",
        _table(rows, "command", "prints"),
    ]
    kinds = [kind for shape in found.values() for kind in shape.kinds]
    parts += [_struct(kind) for kind in output_shapes.structs(kinds).values()]
    return "\n".join(parts)


# ---- settings ----------------------------------------------------------------------------------


def settings() -> str:
    """Every MLOPS_* variable."""
    rows = [
        (f"`{one.name}`", f"`{one.default}`" if one.default else "", one.meaning)
        for one in SETTINGS
    ]
    table = _table(rows, "variable", "default", "meaning")
    return f"# Settings\n\nEnvironment variables, also read from `.env`.\n\n{table}"


def files() -> str:
    """Every key of the files that people write."""
    parts = [
        "# Keys of the files\n",
        "*needed*: it has to be there; *absent*: without it there is none. `[]` is each of a list. "
        "What the keys mean: [the gateway](../gateway.md), [its upstreams](../upstreams.md), "
        "[the recorder](../recorder.md), [the agent](../agent.md), [security](../security.md). "
        "An unknown key is an error. A policy's keys: [the release policy](../policy.md).\n",
    ]
    for name, kind in file_keys.FILES.items():
        keys = [(f"`{key}`", words, f"`{default}`") for key, words, default in file_keys.rows(kind)]
        parts.append(f"## {name}\n\n{_table(keys, 'key', 'type', 'default')}")
    return "\n".join(parts)


# ---- metrics -----------------------------------------------------------------------------------


def metrics() -> str:
    """Every metric of the four processes."""
    parts = ["# Metrics\n"]
    for process, registry in registries().items():
        rows = []
        for family in registry:
            if family.name.startswith(("process_", "python_")):
                continue
            if not family.documentation:
                raise Undocumented(f"metric {family.name} of the {process}")
            rows.append((f"`{family.name}`", family.type, family.documentation))
        parts.append(f"## {process}\n\n{_table(rows, 'metric', 'type', 'meaning')}")
    return "\n".join(parts)


def registries() -> Mapping[str, list[Any]]:
    """What each process exposes before anything has happened."""

    class NoCrew:
        restarts = ()
        members: Mapping[int, Any] = {}

    text, _ = GatewayMetrics(PlanBook(), NoCrew(), lambda: 0.0).render("text/plain", NOTHING)
    recorder = RecorderMetrics(lambda: 0, lambda: 0, lambda: 0, lambda: 0).registry
    CompletenessGauge(_nothing_stored, recorder)
    return {
        "Gateway": list(text_string_to_metric_families(text.decode())),
        "Recorder": _families(recorder),
        "Agent": _families(AgentMetrics().registry),
        "Model server": _families(ServerMetrics().registry),
    }


async def _nothing_stored() -> tuple[Completeness, ...]:
    return ()


def _families(registry: CollectorRegistry) -> list[Any]:
    return list(registry.collect())


# ---- APIs --------------------------------------------------------------------------------------


def apis() -> str:
    """Both HTTP APIs, from their own OpenAPI documents."""
    parts = ["# HTTP APIs\n", "Each process serves its own document at `/openapi.json`.\n"]
    documents = {
        "Gateway, admin port": gateway_openapi.openapi_document(),
        "Agent": agent_openapi.document(),
    }
    for title, document in documents.items():
        rows = []
        for path, verbs in document["paths"].items():
            for verb, operation in verbs.items():
                if verb == "parameters":
                    continue
                said = operation.get("summary") or operation.get("description")
                if not said:
                    raise Undocumented(f"{verb.upper()} {path} of the {title}")
                statuses = ", ".join(sorted(operation["responses"]))
                rows.append((f"`{verb.upper()} {path}`", said, statuses))
        parts.append(f"## {title}\n\n{_table(rows, 'request', 'what it does', 'answers')}")
    parts.append("## Bodies\n")
    for module in (api, plan, release):
        parts += [_struct(kind) for kind in _structs(module)]
    return "\n".join(parts)


def _structs(module: ModuleType) -> list[type[msgspec.Struct]]:
    return [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and issubclass(kind, msgspec.Struct)
        and kind.__module__ == module.__name__
    ]


def _struct(kind: type[msgspec.Struct]) -> str:
    if not kind.__doc__:
        raise Undocumented(f"{kind.__name__} of {kind.__module__}")
    said, types = field_docs(kind), _field_types(kind)
    names = (field.name for field in msgspec.structs.fields(kind))
    rows = [(f"`{name}`", f"`{types.get(name, '')}`", said.get(name, "")) for name in names]
    table = _table(rows, "field", "type", "meaning")
    return f"### {kind.__name__}\n\n{inspect.cleandoc(kind.__doc__)}\n\n{table}"


def field_docs(kind: type) -> dict[str, str]:
    """The text below each field in the source of a class."""
    body = _body(kind)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _field_types(kind: type) -> dict[str, str]:
    return {
        field.target.id: ast.unparse(field.annotation)
        for field in _body(kind)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def _body(kind: type) -> list[ast.stmt]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    return tree.body


# ---- tables ------------------------------------------------------------------------------------


def columns() -> str:
    """Tables that rows are inserted into, with their columns."""
    said = field_docs(record.Row)
    found = {
        tables.ROWS: schema.ROW_TYPES,
        tables.TALLIES: schema.TALLY_TYPES,
        tables.EVALUATIONS: schema.EVALUATION_TYPES,
        tables.RELEASE_EVENTS: schema.RELEASE_EVENT_TYPES,
        tables.DEAD_LETTERS: schema.DEAD_LETTER_TYPES,
        tables.PERFORMANCE: schema.PERFORMANCE_TYPES,
    }
    parts = ["# Tables\n", "What a row means: [the feature store](../feature_store.md).\n"]
    for table, types in found.items():
        rows = [(f"`{name}`", f"`{type_}`", said.get(name, "")) for name, type_ in types.items()]
        parts.append(f"## {table}\n\n{_table(rows, 'column', 'type', 'meaning')}")
    return "\n".join(parts)


def _table(rows: list[tuple[str, ...]], *columns: str) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |\n"
        for line in lines
    )
