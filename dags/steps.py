"""`python -m dags.steps PIPELINE STEP`: one step of a pipeline, in the project's own environment.

The request comes as JSON on standard input, the result goes as one line of JSON to standard
output, what is logged to standard error. Exit codes: 0 done; 99 the step refused to go on; 64 the
request is wrong; anything else: failed, and worth a retry.
"""

from __future__ import annotations

import fcntl
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from dags.step_results import NOT_WORTH_A_RETRY, STOPPED, BadRequest, Refused
from mlops.config import MlopsConfig, read_config
from mlops.config.reading import ConfigError

Step = Callable[[MlopsConfig, bytes], Mapping[str, Any]]
MODULES = {"retrain": "dags.retraining_steps", "monitor": "dags.monitoring_steps"}
"""Imported when asked for: a look at an hour needs no MLflow, which takes seconds to import."""

log = logging.getLogger("dags.steps")


def main(arguments: list[str]) -> int:
    """Run the step that the arguments name; the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        pipeline, name = arguments
        step = steps_of(pipeline)[name]
    except (ValueError, KeyError):
        known = "; ".join(f"{one}: {', '.join(steps_of(one))}" for one in MODULES)
        return _say(f"expected a pipeline and its step, of {known}", NOT_WORTH_A_RETRY)
    content = sys.stdin.buffer.read()
    try:
        config = read_config()
        # Libraries print as they like (MLflow tells of its runs): only the answer goes out here.
        with redirect_stdout(sys.stderr), _alone(config.retraining.data_path, content):
            result = step(config, content)
    except (BadRequest, ConfigError) as error:
        return _say(str(error), NOT_WORTH_A_RETRY)
    except Refused as error:
        return _say(str(error), STOPPED)
    except Exception as error:
        log.exception("%s %s failed", pipeline, name)
        return _say(f"{type(error).__name__}: {error}", 1)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def steps_of(pipeline: str) -> Mapping[str, Step]:
    """Its steps by name. Raises KeyError where there is no such pipeline."""
    found: Mapping[str, Step] = import_module(MODULES[pipeline]).STEPS
    return found


def _say(sentence: str, code: int) -> int:
    sys.stderr.write(sentence + "\n")
    sys.stdout.write(json.dumps({"sentence": sentence}) + "\n")
    return code


@contextmanager
def _alone(data_path: Path, request: bytes) -> Iterator[None]:
    """One step at a time in a retraining's partition: a retry waits for a try that still ends."""
    try:
        partition = msgspec.json.decode(request).get("partition")
    except (msgspec.DecodeError, AttributeError):
        partition = None
    if not isinstance(partition, str) or "/" in partition:
        yield  # the step itself says what is wrong, or writes files that replace each other whole
        return
    folder = data_path / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / partition).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # the kernel lets go of it when its holder ends
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
