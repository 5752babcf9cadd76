"""What somebody types at 03:00 starts at once: it waits for no library that it does not use."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from cli.lazy import LazyGroup
from cli.main import main

HEAVY = {
    "numpy", "scipy", "pandas", "pyarrow", "mlflow", "minio", "clickhouse_connect", "sqlalchemy",
    "chdb",
}  # fmt: skip


@pytest.mark.parametrize("module", ["cli.main", "cli.traffic", "cli.release", "cli.contexts"])
def test_a_command_that_asks_gateways_or_agent_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stdout.split()) & HEAVY == set()


@pytest.mark.parametrize("words", [(), ("release",)])
def test_what_is_said_of_a_command_is_what_it_says(words: tuple[str, ...]) -> None:
    """Read from its source, so that a list of all of them imports none."""
    context = click.Context(main)
    group = main.get_command(context, words[0]) if words else main
    assert isinstance(group, LazyGroup)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        assert group.one_line(context, name, 70) == command.get_short_help_str(70) != ""


def test_the_list_of_commands_and_its_completion_import_none_of_them() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from cli.main import main; "
        "CliRunner().invoke(main, ['--help']); CliRunner().invoke(main, [], prog_name='rag-mlops', "
        "env={'_RAG_MLOPS_COMPLETE': 'bash_complete', 'COMP_WORDS': 'rag-mlops ', "
        "'COMP_CWORD': '1'}); print([one for one in ('agent', 'gateway', 'msgspec', 'numpy', "
        "'aiohttp') if one in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=True, timeout=60)  # fmt: skip
    assert said.stdout == "[]\n"
