"""Run one step of a pipeline in the project's own virtual environment. Airflow's side.

Airflow's pins and ours do not fit into one environment, so a task is a process of the project's
Python: a request goes in as JSON, one line of JSON comes out, what is logged shows in the task's
log. A step that refuses to go on exits with 99, which skips the task and what follows it.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

ROOT = Path(__file__).resolve().parent.parent
PYTHON_SETTING = "RAG_MLOPS_PYTHON"
"""The project's interpreter; by default that of `.venv` beside this folder."""

STOPPED, NOT_WORTH_A_RETRY = 99, 64
STOPPED_KEY = "stopped"
STOP_TIMEOUT_S = 10.0
"""What a step gets to end after SIGTERM when its task is ended; then it is killed."""
_PR_SET_PDEATHSIG = 1

log = logging.getLogger("airflow.task")


def run_step(pipeline: str, step: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """What the step says.

    Raises:
        AirflowSkipException: it refused to go on, for the reason in the message.
        AirflowFailException: the request is wrong; the same again would fail again.
        RuntimeError: it failed; worth a retry.
    """
    process = subprocess.Popen(  # noqa: S603  our own interpreter and module
        [_python(), "-W", "ignore::SyntaxWarning", "-m", "dags.steps", pipeline, step],
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509  only a system call
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    said = threading.Thread(target=_tell, args=(process.stderr,), name="step log", daemon=True)
    said.start()
    try:
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        answer = process.stdout.read()
        code = process.wait()
    except BrokenPipeError:
        answer, code = "", process.wait()
    finally:
        _end(process)
        said.join(STOP_TIMEOUT_S)
    return _result(pipeline, step, code, answer)


def _result(pipeline: str, step: str, code: int, answer: str) -> dict[str, Any]:
    name = f"{pipeline} {step}"
    if code == 0:
        found: dict[str, Any] = json.loads(answer)
        log.info("%s: %s", name, found.get("sentence", "done"))
        return found
    sentence = json.loads(answer)["sentence"] if answer.strip() else "see the lines above"
    if code == STOPPED:
        # A skipped task returns nothing: this keeps the reason where the interface shows it.
        get_current_context()["ti"].xcom_push(key=STOPPED_KEY, value={"sentence": sentence})
        raise AirflowSkipException(sentence)
    if code == NOT_WORTH_A_RETRY:
        raise AirflowFailException(f"{name}: {sentence}")
    raise RuntimeError(f"{name} ended with code {code}: {sentence}")


def _python() -> str:
    return os.environ.get(PYTHON_SETTING) or str(ROOT / ".venv" / "bin" / "python")  # noqa: TID251  a task's only setting


def _environment() -> dict[str, str]:
    """Ours without Airflow's: its settings hold its secrets, and its paths its libraries."""
    return {
        name: value
        for name, value in os.environ.items()  # noqa: TID251  handed on to the step
        if not name.startswith(("AIRFLOW", "PYTHON", "VIRTUAL_ENV"))
    } | {"PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1"}


def _tell(lines: IO[str]) -> None:
    for line in lines:
        log.info("%s", line.rstrip())


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
