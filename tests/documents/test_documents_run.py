"""Every command that README and docs show is run, page by page, or stands here with why it is not.

On the usual ports, so that commands are typed as they stand. Run by `make test-docs`.
"""

from __future__ import annotations

import csv
import os
import random
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from mlops.local.child import is_free
from mlops.local.stack import read_stack
from scripts.documents import Block, Ended, Terminals, blocks
from scripts.stranger_path import existing_server, serving

pytestmark = [pytest.mark.documents, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md"] + [
    str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))
]
PORTS = (8000, 8001, 8002, 8011, 8012, 8123, 5000, 9000)

NOT_RUN = {
    r"docker-compose ": "needs Docker; tests/deploy reads the file with the real docker-compose",
    r"kubectl |gateways=|alias secret|secret \S+ --": "needs a cluster; tests/deploy checks it",
    r"sudo ": "changes the machine; tests/deploy checks the units",
    r"make ": "each target is a run of its own; here only that there is one of that name",
    r"git clone|cd rag-mlops|export PATH": "scripts/stranger_path.py does it",
    r"pip install 'rag-mlops\[": "is on no package index; the extra is in our lock",
    r"curl http://localhost:(8080|3001)/": "Airflow and Grafana run in the compose file only",
    r"rag-mlops retrain ": "needs scored traffic; tests/component/training does these with it",
    r"rag-mlops release start .*\.svc:": "names a service of a cluster",
}
"""What begins so, and why it is not run here."""

NOT_COMMANDS = {"server-timing:", "<spool.dir>", "SELECT sum("}
"""Blocks without a language that show something else."""

OTHER_TESTS = {"docs/library.md": "tests/process/test_library_page.py runs its Python"}

ON_THE_STACK = {
    "docs/how_to/backup_and_restore.md", "docs/how_to/late_scores.md", "docs/operations.md",
    "docs/feature_store.md", "docs/pipelines.md", "docs/how_to/several_gateways.md",
}  # fmt: skip
"""What they show speaks to a whole system, `rag-mlops up`; other pages start parts of their own."""

DEFAULTS = "\n" * 9
"""A command that asks takes them."""
CLICKHOUSE = ["rag-mlops clickhouse", "rag-mlops migrate"]
GATEWAY = "rag-mlops gateway --config gateway.yaml"
GIVEN = {
    "docs/agent.md": CLICKHOUSE,
    "docs/how_to/upgrade.md": [GATEWAY],
    "docs/observability.md": CLICKHOUSE,
    "docs/recorder.md": CLICKHOUSE,
    "docs/spool.md": [GATEWAY, "curl -sS http://127.0.0.1:8000/"],
    "docs/upstreams.md": [
        "rag-mlops init --force --version 1.2.2",
        "sed -i 's/^#    canary:/    canary:/' gateway.yaml",
    ],
}
"""What a page takes for granted, beside the files of `init` and the two servers."""

ROWS = {"docs/judge.md": "rows.csv", "docs/drift.md": "rows.parquet"}


def shown(page: str) -> list[Block]:
    """Blocks of commands, or of Python that is run."""
    found = []
    for block in blocks(ROOT / page, page):
        is_python = block.language == "python" and page not in OTHER_TESTS
        is_shell = block.language in ("", "bash", "sh") and not any(
            block.text.startswith(beginning) for beginning in NOT_COMMANDS
        )
        if is_python or is_shell:
            found.append(block)
    return found


def why_not(command: str) -> str | None:
    return next((why for begins, why in NOT_RUN.items() if re.match(begins, command)), None)


def commands_of(page: str) -> list[str]:
    return [command for block in shown(page) for command in block.commands]


SHOWING = [page for page in PAGES if shown(page)]


@dataclass(slots=True)
class Reader:
    """Somebody who types what a page shows, in a directory of their own."""

    page: str
    terminals: Terminals
    typed: list[str] = field(default_factory=list)

    def read(self) -> None:
        """From its beginning to its end."""
        for command in GIVEN.get(self.page, ()):
            ended = self.terminals.type(command, answers=DEFAULTS)
            assert ended.code == 0, f"{command}: {ended.said}"
        for block in blocks(ROOT / self.page, self.page):
            if block.language == "yaml":
                self.keep_file(block)
            elif block in shown(self.page):
                self.do(block)

    def keep_file(self, block: Block) -> None:
        """A file whose first line is its name lies where the page says."""
        name = block.text.splitlines()[0].removeprefix("# ")
        if re.fullmatch(r"\S+\.yaml", name):
            path = Path(name.replace("~", self.terminals.environment["HOME"]))
            path = self.terminals.directory / path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")

    def do(self, block: Block) -> None:
        if block.language == "python":
            code = self.terminals.directory / "shown.py"
            code.write_text(block.text, encoding="utf-8")
            self.check(f"{sys.executable} -W ignore shown.py", block)
            return
        for command in block.commands:
            if command.startswith("make "):
                self.check_target(command)
            elif why_not(command) is None:
                ended = self.check(command, block)
                if block.text.startswith("$ "):
                    assert ended.said == block.answer, f"{block.page}:{block.line}"

    def check(self, command: str, block: Block) -> Ended:
        typed = command.split("  #", maxsplit=1)[0].strip()
        typed = re.sub(r"(?<![\w/])\.venv/bin/", f"{Path(sys.executable).parent}/", typed)
        typed = typed.replace(" ROWS ", f" {ROWS.get(self.page)} ")
        typed = typed.replace(" --watch", "")  # which never ends
        code = 0
        if " release status " in typed:  # nothing is decided within seconds
            typed, code = f"{typed} --timeout 3", 3
        if "--upgrade" not in typed:
            self.terminals.end_such_as(typed)  # a page may show two ways
        ended = self.terminals.type(typed, answers=DEFAULTS)
        assert ended.code == code, f"{block.page}:{block.line}: {typed}\n{ended.said}"
        assert '"error"' not in ended.said, f"{block.page}:{block.line}: {typed}\n{ended.said}"
        self.typed.append(typed)
        return ended

    def check_target(self, command: str) -> None:
        target = command.split()[1]
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), command


@pytest.fixture(scope="module", autouse=True)
def free_ports() -> None:
    taken = [port for port in PORTS if not is_free(port)]
    assert not taken, f"ports {taken} are taken; the pages name them. `rag-mlops down` ends a stack"


def environment(directory: Path) -> dict[str, str]:
    home = directory / "home"
    home.mkdir(exist_ok=True)
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8",
        "RECORD_HASH_SECRET": "sixteen bytes or more",
    }


@pytest.fixture
def own(tmp_path: Path, page: str) -> Iterator[Terminals]:
    """Two servers that were there before, and the files of `init` unless the page says it."""
    with ExitStack() as stack:
        for port, version in ((8011, "A"), (8012, "B")):
            stack.enter_context(serving(existing_server(port, version)))
        terminals = stack.enter_context(Terminals(tmp_path, environment(tmp_path)))
        if not any("rag-mlops init" in each for each in commands_of(page)):
            assert terminals.type("rag-mlops init", answers=DEFAULTS).code == 0
        make_rows(tmp_path)
        yield terminals


@pytest.fixture(scope="module")
def whole_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminals]:
    """`rag-mlops up`."""
    directory = tmp_path_factory.mktemp("up")
    models = ROOT / "var/models"
    if models.is_dir():  # trained once
        shutil.copytree(models, directory / "var/models")
    with Terminals(directory, environment(directory)) as terminals:
        ended = terminals.type("rag-mlops up")
        assert ended.code == 0, ended.said
        try:
            found = read_stack(directory / "var/up")
            assert found is not None
            terminals.environment |= found.secrets
            yield terminals
        finally:
            terminals.type("rag-mlops down")


def make_rows(directory: Path) -> None:
    """A log for `judge` and, with vectors, one for `drift`."""
    draw = random.Random(1)
    with (directory / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ts", "arm", "status", "latency_ms"])
        for number in range(3000):
            arm = "canary" if draw.random() < 0.1 else "stable"
            writer.writerow([1_700_000_000 + number, arm, 200, round(draw.gauss(100, 9), 1)])
    vectors = [[draw.gauss(0, 1) for _ in range(4)] for _ in range(4000)]
    parquet.write_table(pa.table({"embedding": vectors}), directory / "rows.parquet")


@pytest.mark.parametrize("page", [page for page in SHOWING if page not in ON_THE_STACK])
def test_what_a_page_shows_is_done(page: str, own: Terminals) -> None:
    Reader(page, own).read()


@pytest.mark.parametrize("page", [page for page in SHOWING if page in ON_THE_STACK])
def test_what_a_page_shows_of_a_whole_system_is_done(page: str, whole_system: Terminals) -> None:
    Reader(page, whole_system).read()


def test_every_reason_is_needed() -> None:
    every = [command for page in PAGES for command in commands_of(page)]
    for begins in NOT_RUN:
        assert any(re.match(begins, command) for command in every), begins
    assert set(PAGES) >= ON_THE_STACK
