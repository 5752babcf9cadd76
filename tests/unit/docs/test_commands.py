"""Every `rag-mlops` line in the documents, and in their sentences, is one that is understood."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.main import main

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"```(?:\w*)\n(.*?)```", re.DOTALL)
_LINE = re.compile(r"^(?:\$ )?(?:\S*bin/)?rag-mlops (.*)$", re.MULTILINE)
_AFTER = re.compile(r" (?:#|&&|\||>)")
"""A comment, or another command."""
_IN_SENTENCE = re.compile(r"`rag-mlops ([a-z][^`]*)`")
_FILES = ("gateway.yaml", "agent.yaml", "policy.yaml", "new.yaml")


def lines() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for block in _BLOCK.findall(document.read_text(encoding="utf-8")):
            joined = block.replace("\\\n", " ")
            for line in _LINE.findall(joined):
                yield str(document.relative_to(ROOT)), line


def test_the_documents_have_commands() -> None:
    """Or the test below tests nothing."""
    assert len(list(lines())) > 30


@pytest.mark.parametrize(("document", "line"), sorted(set(lines())))
def test_a_documented_command_parses(
    document: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del document  # names the case
    monkeypatch.chdir(tmp_path)
    for name in _FILES:
        Path(name).write_text("", encoding="utf-8")
    with CliRunner().isolation(input="\n" * 9):  # a command that asks takes its defaults
        parse(main, "rag-mlops", arguments(line))


def sentences() -> Iterator[tuple[str, str]]:
    """Commands that stand within a sentence, each of the alternatives of `start|stop` alone."""
    for document in DOCUMENTS:
        text = " ".join(_BLOCK.sub("", document.read_text(encoding="utf-8")).split())
        for found in _IN_SENTENCE.findall(text):
            words = [word.split("|") for word in re.sub(r"[\[\]]|\.\.\.", "", found).split()]
            for chosen in itertools.product(*words):
                yield str(document.relative_to(ROOT)), " ".join(chosen)


@pytest.mark.parametrize(("document", "line"), sorted(set(sentences())))
def test_a_command_in_a_sentence_exists_and_parses(
    document: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command: click.Command = main
    context, rest = click.Context(main), line.split()
    while rest and isinstance(command, click.Group):
        inner = command.get_command(context, rest.pop(0))
        assert inner is not None, line
        command = inner
    if rest:  # as somebody would type it; a name alone speaks of the command
        with CliRunner().isolation(input="\n" * 9):
            parse(main, "rag-mlops", arguments(line))
    elif "runbooks" in document:
        assert not isinstance(command, click.Group), f"{line} does nothing"


def arguments(line: str) -> list[str]:
    """The words of the line, a file or folder made for each that has to be there."""
    words = shlex.split(_AFTER.split(line)[0])
    for word in words:
        if word.isupper() or word.startswith(("var/", "./", "models/")) or "." in word[1:-1]:
            path = Path(word)
            if not path.is_absolute() and "://" not in word and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                if word.startswith("var/") and not path.suffix:
                    path.mkdir()
                else:
                    path.write_text("", encoding="utf-8")
    return words


def parse(command: click.Command, name: str, words: list[str]) -> None:
    """As click would, without running anything."""
    context = command.make_context(name, list(words))
    with context:
        if isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            inner_name, inner, inner_words = command.resolve_command(context, rest)
            assert inner is not None
            assert inner_name is not None
            parse(inner, inner_name, inner_words)
