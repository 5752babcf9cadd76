"""Tests against mutants: each in a process of its own, forked from one that has pytest loaded.

Nothing on disk is changed: the child's import system is given the mutant's source for that one
module. The parent never imports a module of ours.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from pathlib import Path
from time import monotonic, sleep
from types import CodeType, ModuleType

import pytest
from hypothesis import Phase, settings

from bench.mutants.mutations import Mutant

MEMORY_BYTES = 4 << 30
"""Address space of a child: a mutant may build an endless list."""
LEAST_CPU_S = 10
TIMES = 5
"""A mutant's tests may take this many times the CPU they take without it, and `LEAST_CPU_S`."""
WAIT_S = 900.0
"""For one that sleeps."""
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
OUTPUT = Path("var/mutants/last.txt")
"""What the last child said."""

KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"


class _Mutated(MetaPathFinder, Loader):
    """Finds one module, and runs another source for it."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        self._module = module
        self._path = path
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(self._path))

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self._path)
        code: CodeType = compile(self._source, str(self._path), "exec")
        exec(code, module.__dict__)


def path_of(module: str) -> Path:
    return Path(f"{module.replace('.', '/')}.py")


def start(module: str, source: str, tests: Sequence[str], cpu_s: int) -> int:
    """Fork a child that ends with pytest's exit code, or killed after `cpu_s`; its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        os.setsid()
        for number in (1, 2):
            os.dup2(os.open(OUTPUT, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        sys.meta_path.insert(0, _Mutated(module, path_of(module), source))
        settings.register_profile(
            "mutants", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
        )
        settings.load_profile("mutants")
        code = int(pytest.main([*OPTIONS, *tests]))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def limit_s(module: str, tests: Sequence[str]) -> int:
    """CPU that the tests may take; RuntimeError if they do not pass with the module as it is."""
    pid = start(module, path_of(module).read_text("utf-8"), tests, 3600)
    _, status, used = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise RuntimeError(f"{' '.join(tests)}: must pass before mutants mean anything, got {code}")
    return LEAST_CPU_S + TIMES * int(used.ru_utime + used.ru_stime + 1)


def outcomes(
    mutants: Iterable[Mutant], tests: Sequence[str], cpu_s: int, most: int
) -> Iterator[tuple[Mutant, str]]:
    """Run `tests` on each, at most `most` at a time; each with what became of it, as they end."""
    waiting = iter(mutants)
    running: dict[int, tuple[Mutant, float]] = {}
    is_more = True
    while is_more or running:
        while is_more and len(running) < most:
            mutant = next(waiting, None)
            is_more = mutant is not None
            if mutant is not None:
                pid = start(mutant.module, mutant.source, tests, cpu_s)
                running[pid] = mutant, monotonic() + WAIT_S
        for pid, (mutant, ends_s) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            is_late = not ended and monotonic() > ends_s
            if is_late:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            if ended or is_late:
                del running[pid]
                yield mutant, TIMED_OUT if is_late else _outcome(status)
        sleep(0.01)


def _outcome(status: int) -> str:
    """A mutant that cannot even be imported is noticed."""
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return TIMED_OUT
    return KILLED if code else SURVIVED
