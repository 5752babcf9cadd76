"""Coverage-guided fuzzing of what reads others' bytes: `python -m tests.fuzz SECONDS [TARGET...]`.

`make fuzz SECONDS=3600` gives each target its share; `ONLY="spool policy"` takes some. Starts from
the kept corpus; what it finds of interest goes to `var/fuzz/`, an input that breaks a rule to
`var/fuzz/TARGET-crash-...`. Copy that into `tests/fuzz/corpus/`, and every test run replays it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

os.environ["GATEWAY_PURE_PYTHON"] = "1"  # what is compiled cannot be instrumented

import atheris

from tests.fuzz.limits import limited

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path("var/fuzz")
MAX_INPUT_BYTES = 4096
"""Under every limit of the gateway: above them, where a read is cut decides what is counted."""
HANGS_S = 600
"""Wall time of one input, for a loop in C that `limited` cannot end."""
TARGETS = {
    "requests": ("tests.fuzz.harness", "check_requests"),
    "answers": ("tests.fuzz.answers", "check_answers"),
    "spool": ("tests.fuzz.spool", "check_spool"),
    "gateway_file": ("tests.fuzz.files", "check_gateway_file"),
    "policy": ("tests.fuzz.files", "check_policy"),
    "features": ("tests.fuzz.features", "check_features"),
}
"""By the folder of its corpus: where the rules are that hold for every input."""
ONE = "--in-this-process"


def fuzz(target: str, seconds: int) -> None:
    """Does not return: the engine ends the process."""
    module, function = TARGETS[target]
    with atheris.instrument_imports(include=["gateway", "agent.policy", "yaml"]):
        check = getattr(import_module(module), function)
    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}", f"-timeout={HANGS_S}"]
    options += [f"-artifact_prefix={found}-", f"-dict={_words(target)}"]
    atheris.Setup([sys.argv[0], *options, str(found), str(CORPUS / target)], limited(check))
    atheris.Fuzz()


def _words(target: str) -> Path:
    own = CORPUS / f"{target}.words"
    return own if own.exists() else CORPUS / "words"


def main() -> int:
    seconds, targets = int(sys.argv[1]), sys.argv[2:]
    if ONE in targets:
        fuzz(targets[0], seconds)
    failed = []
    chosen = targets or list(TARGETS)
    for target in chosen:
        share = str(max(1, seconds // len(chosen)))
        command = [sys.executable, "-m", "tests.fuzz", share, target, ONE]
        if subprocess.run(command, check=False).returncode:
            failed.append(target)
    if failed:
        sys.stderr.write(f"rules were broken: {', '.join(failed)}; see {FOUND}/\n")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
