"""What can be told of the pipelines without Airflow: their files are thin, and name real steps."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from dags.steps import MODULES, steps_of

DAGS = Path(__file__).parents[3] / "dags"
FILES = {"retrain": DAGS / "rag_retraining_dag.py", "monitor": DAGS / "model_monitoring_dag.py"}
AIRFLOW_SIDE = (*FILES.values(), DAGS / "project_step.py", DAGS / "release_wait.py")
STEPS = {pipeline: set(steps_of(pipeline)) for pipeline in MODULES}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", AIRFLOW_SIDE, ids=lambda path: path.name)
def test_airflows_side_imports_nothing_that_its_environment_lacks(path: Path) -> None:
    ours = {name for name in imports(path) if name.split(".")[0] in {"mlops", "agent", "cli"}}
    assert not ours
    assert {name for name in imports(path) if name.startswith("dags.")} <= {
        "dags.agent_place",
        "dags.project_step",
        "dags.release_wait",
        "dags.run_values",
    }


@pytest.mark.parametrize("name", ["run_values.py", "agent_place.py"])
def test_what_both_environments_read_needs_only_the_standard_library(name: str) -> None:
    found = {one.split(".")[0] for one in imports(DAGS / name)}
    assert found <= {"__future__", *sys.stdlib_module_names}


@pytest.mark.parametrize("pipeline", FILES)
def test_the_tasks_call_every_step_and_no_other(pipeline: str) -> None:
    text = FILES[pipeline].read_text(encoding="utf-8")
    called = re.findall(r'run_step\("(\w+)", "(\w+)"', text)
    assert {one for one, _ in called} == {pipeline}
    assert {step for _, step in called} == STEPS[pipeline]


@pytest.mark.parametrize("path", FILES.values(), ids=lambda path: path.name)
def test_a_task_has_one_statement_of_its_own(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and any(
            "task" in ast.unparse(one) for one in node.decorator_list
        ):
            body = [one for one in node.body if not isinstance(one, ast.Expr)]
            assert len(body) <= 2, node.name


def test_airflow_reads_only_the_two_pipelines() -> None:
    (line,) = [
        one
        for one in (DAGS / ".airflowignore").read_text(encoding="utf-8").splitlines()
        if not one.startswith("#")
    ]
    read = [path.name for path in DAGS.glob("*.py") if not re.search(line, path.name)]
    assert sorted(read) == sorted(path.name for path in FILES.values())
