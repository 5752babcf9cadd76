"""The request path and what the recorder does to each record, compiled where that was done.

It is the same source, a quarter cheaper.

`make accelerate` compiles them with mypyc into `gateway/_compiled/DIGEST/`. The digest is of their
sources and of the interpreter, so an edited module is never shadowed by what was compiled before
it: then plain Python runs. Nothing depends on this; without a compiler everything works.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import MutableSequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parent

MODULES: Final = (
    "attempts",
    "client_rules",
    "counters",
    "deadlines",
    "downstream",
    "event_stream",
    "exchange",
    "features.bodies",
    "features.extract",
    "features.fields",
    "features.kserve",
    "features.native",
    "features.openai",
    "features.redaction",
    "features.rules",
    "features.tei",
    "flow",
    "forwarding",
    "framing",
    "keys",
    "lanes",
    "mirror",
    "outliers",
    "plain",
    "pool",
    "record",
    "recorder.rows",
    "request_reader",
    "response_reader",
    "routing",
    "spool.encoding",
    "spool.writer",
    "upstream",
)
"""Compiled together, because they call one another for every request. None may define a class with
keywords, as msgspec's types have: mypyc drops those."""

GROUP: Final = "gateway_compiled"
"""Of the shared library that holds all of them; mypyc adds `__mypyc`."""

SWITCH: Final = "GATEWAY_PURE_PYTHON"
"""Environment variable: with any value but an empty one, plain Python runs."""


def sources() -> list[Path]:
    """Files of `MODULES`, in that order."""
    return [PACKAGE / f"{module.replace('.', '/')}.py" for module in MODULES]


def directory() -> Path:
    """Where what is compiled from the present sources lies, if it was."""
    digest = blake2b(sys.implementation.cache_tag.encode(), digest_size=8)
    for source in sources():
        digest.update(source.read_bytes())
    return PACKAGE / "_compiled" / digest.hexdigest()


def library(where: Path) -> Path:
    """The shared library in a `directory()`; it need not exist."""
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    return where / f"{GROUP}__mypyc{suffix}"


@cache
def active() -> Path | None:
    """The directory in use by this process; None where plain Python runs."""
    if os.environ.get(SWITCH):  # noqa: TID251  read before there is any composition root
        return None
    where = directory()
    shared = library(where)
    if not shared.exists():
        return None
    name = f"{GROUP}__mypyc"
    spec = importlib.util.spec_from_file_location(name, shared)
    assert spec is not None, f"{shared} is no extension module"
    assert spec.loader is not None, f"{shared} cannot be loaded"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return where


def extend(path: MutableSequence[str], *subpackage: str) -> None:
    """Let a package of ours look among the compiled modules first. `path` is its `__path__`."""
    where = active()
    if where is not None:
        path.insert(0, str(where.joinpath("gateway", *subpackage)))
