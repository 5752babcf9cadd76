"""Read docstrings out of installed source files, without importing them."""

from __future__ import annotations

import ast
import inspect
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

SKIPPED_PARTS = frozenset(
    {
        "test",
        "tests",
        "testing",
        "conftest.py",
        "site-packages",
        "dist-packages",
        "__pycache__",
        "idlelib",
        "lib2to3",
        "turtledemo",
        "ensurepip",
        "distutils",
        "f2py",
        "array_api_compat",
        "array_api_extra",
    }
)
"""Folders of tests, of vendored copies and of other packages."""

Docstring = tuple[str, str]
"""The qualified name of a public thing, and its cleaned docstring."""


def docstrings_under(root: Path, package: str) -> Iterator[Docstring]:
    """Every docstring of public functions, classes and methods under `root`, in a fixed order.

    `package` is the import name of `root`; empty for the folder of the standard library. Private
    modules are read too, since packages keep their code there, but leave no trace in the name.
    """
    for path in sorted(_sources(root)):
        yield from _docstrings_of_file(path, _module_name(package, path.relative_to(root).parts))


def _sources(folder: Path) -> Iterator[Path]:
    """Source files below `folder`; skipped folders are not even listed: one holds all packages."""
    for entry in list(os.scandir(folder)):
        if entry.name in SKIPPED_PARTS:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _sources(Path(entry.path))
        elif entry.name.endswith(".py"):
            yield Path(entry.path)


def _module_name(package: str, parts: tuple[str, ...]) -> str:
    names = [package, *(part.removesuffix(".py") for part in parts)]
    public = [name for name in names if name and not name.startswith("_")]
    return ".".join(public) or names[-1].strip("_")


def _docstrings_of_file(path: Path, module: str) -> Iterator[Docstring]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's docstrings
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # a template or a file for another Python; there are thousands of others
    for node in tree.body:
        if isinstance(node, ast.Expr):
            yield from _added_docstring(node.value, module)
        else:
            yield from _docstrings_of_definition(node, module)


def _docstrings_of_definition(node: ast.stmt, owner: str) -> Iterator[Docstring]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    if node.name.startswith("_"):
        return
    name = f"{owner}.{node.name}" if owner else node.name
    if docstring := ast.get_docstring(node):
        yield name, docstring
    if isinstance(node, ast.ClassDef):
        for member in node.body:
            yield from _docstrings_of_definition(member, name)


def _added_docstring(node: ast.expr, module: str) -> Iterator[Docstring]:
    """numpy and scipy document their compiled functions by calls of `add_newdoc`."""
    if not (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "add_newdoc"
    ):
        return
    try:
        arguments = [ast.literal_eval(argument) for argument in node.args]
    except ValueError:
        return  # built at run time
    match arguments:
        case [str(name), str(docstring)]:
            yield f"{module}.{name}", inspect.cleandoc(docstring)
        case [str(), str(name), str(docstring)]:
            yield f"{module}.{name}", inspect.cleandoc(docstring)
        case [str(), str(owner), (str(name), str(docstring))]:
            yield f"{module}.{owner}.{name}", inspect.cleandoc(docstring)
        case _:
            return
