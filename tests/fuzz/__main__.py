"""Coverage-guided fuzzing of both readers: `python -m tests.fuzz SECONDS` (`make fuzz`).

Starts from the kept corpus; what it finds of interest goes to `var/fuzz/`, an input that breaks a
rule to `var/fuzz/crash-...`. Copy that into `tests/fuzz/corpus/`, and every test run replays it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

os.environ["GATEWAY_PURE_PYTHON"] = "1"  # what is compiled cannot be instrumented

import atheris

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path("var/fuzz")
MAX_INPUT_BYTES = 4096
"""Under every limit of the gateway: above them, where a read is cut decides what is counted."""
TARGETS = ("requests", "answers")


def fuzz(target: str, seconds: int) -> None:
    """Does not return: the engine ends the process."""
    with atheris.instrument_imports(include=["gateway"]):
        from tests.fuzz.answers import check_answers  # noqa: PLC0415  instrumented as it is loaded
        from tests.fuzz.harness import check_requests  # noqa: PLC0415
    check = {"requests": check_requests, "answers": check_answers}[target]
    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}"]
    options += [f"-artifact_prefix={FOUND}/", f"-dict={CORPUS / 'words'}"]
    atheris.Setup([sys.argv[0], *options, str(found), str(CORPUS / target)], check)
    atheris.Fuzz()


def main() -> int:
    seconds = int(sys.argv[1])
    if len(sys.argv) > 2:
        fuzz(sys.argv[2], seconds)
    for target in TARGETS:
        command = [sys.executable, "-m", "tests.fuzz", str(seconds // len(TARGETS)), target]
        done = subprocess.run(command, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
