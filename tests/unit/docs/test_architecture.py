"""ARCHITECTURE.md is true: what it names is there, and who imports whom is as its map says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PACKAGES = ("gateway", "agent", "mlops", "cli", "dags")
_QUOTED = re.compile(r"`([^`]+)`")
_WORDS = re.compile(r"[a-z_]+(?: [a-z_]+)*")


@dataclass(frozen=True)
class Row:
    """One row of the map."""

    places: tuple[str, ...]
    what: str
    imports: tuple[str, ...]
    """Packages and modules, or the place whose row holds here too."""

    def files(self) -> set[Path]:
        return {path for place in self.places for path in ROOT.glob(place)}


def rows() -> list[Row]:
    table = TEXT[TEXT.index("| place |") : TEXT.index("\n\n", TEXT.index("| place |"))]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return [
        Row(tuple(_QUOTED.findall(place)), what, tuple(_QUOTED.findall(imports)))
        for place, what, imports in cells
    ]


ROWS = rows()
OURS = [row for row in ROWS if row.places[0].split("/")[0] in PACKAGES]


def modules_of(row: Row) -> list[tuple[str, bool]]:
    """What a row names by words, and whether it says that it is pure."""
    found = []
    for phrase in re.finditer(r"(pure: |Pure: )?`([^`]+)`", row.what):
        if _WORDS.fullmatch(phrase[2]) and not phrase[2].startswith("make "):
            found += [(word, bool(phrase[1])) for word in phrase[2].split()]
    return found


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES)


def place_of(module: str) -> str:
    """Its row's place: the longest that holds it."""
    path = Path(*module.split("."))
    holding = {
        place
        for row in OURS
        for place in row.places
        if path.with_suffix(".py").match(place) or f"{path}/".startswith(place)
    }
    return max(holding, key=len)


def row_of(place: str) -> Row:
    return next(row for row in OURS if place in row.places)


def allowed(row: Row) -> tuple[str, ...]:
    (first, *_) = row.imports or ("",)
    return allowed(row_of(first)) if first.endswith("/") else row.imports


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.places[0])
def test_every_place_is_there_and_has_what_is_named(row: Row) -> None:
    for place in row.places:
        assert list(ROOT.glob(place)), place
    folder = ROOT / row.places[0]
    if folder.is_file():
        return
    for word, _ in modules_of(row):
        assert (folder / f"{word}.py").exists() or (folder / word).is_dir(), word


def test_every_package_of_ours_has_a_row() -> None:
    parts = {path.parent for path in ROOT.glob("mlops/*/__init__.py")} | {
        ROOT / package for package in PACKAGES
    }
    missing = {str(part.relative_to(ROOT)) for part in parts} - {
        place.rstrip("/") for row in ROWS for place in row.places
    }
    assert missing == {"mlops"}, "mlops has a row for each of its parts"


def test_what_is_called_pure_is_in_the_contract_of_the_core() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    core = next(
        set(one["source_modules"])
        for one in settings["tool"]["importlinter"]["contracts"]
        if one["name"].startswith("The core")
    )
    named = {
        f"{row.places[0].strip('/').replace('/', '.')}.{word}"
        for row in OURS
        for word, is_pure in modules_of(row)
        if is_pure
    }
    assert named, "the map calls modules pure"
    assert named <= core, sorted(named - core)


def test_who_imports_whom_is_as_the_map_says() -> None:
    wrong = []
    for module in sorted(graph().modules):
        if module in PACKAGES:
            continue
        place = place_of(module)
        may = allowed(row_of(place))
        for imported in sorted(graph().find_modules_directly_imported_by(module)):
            is_own = imported.split(".")[0] == module.split(".")[0] != "mlops"
            if is_own or imported == "mlops" or place_of(imported) in row_of(place).places:
                continue
            if not any(imported == one or imported.startswith(f"{one}.") for one in may):
                wrong.append(f"{module} imports {imported}; {place} may import {', '.join(may)}")
    assert not wrong, "\n".join(wrong)


def test_every_word_of_the_glossary_is_in_use() -> None:
    """In the product's code, by that name."""
    glossary = TEXT[TEXT.index("## Glossary") :]
    words = [
        word
        for line in glossary.splitlines()
        if line.startswith("| **")
        for word in re.findall(r"\*\*([a-z ]+)\*\*", line.split(" | ")[0])
    ]
    assert len(words) == len(set(words)) > 20
    code = "\n".join(
        path.read_text(encoding="utf-8") for one in PACKAGES for path in ROOT.glob(f"{one}/**/*.py")
    )
    assert not [word for word in words if not re.search(rf"{word.replace(' ', '[_ ]')}", code)]


@pytest.mark.parametrize("room", ["gateway", "agent"])
def test_every_module_of_the_two_programs_is_on_the_map(room: str) -> None:
    row = row_of(f"{room}/")
    elsewhere = set().union(*(one.files() for one in OURS if one is not row))
    modules = set((ROOT / room).glob("[a-z]*.py")) - elsewhere
    assert {path.stem for path in modules} - {word for word, _ in modules_of(row)} == set()
