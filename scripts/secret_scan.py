"""Refuse what looks like a secret in a file that is kept: keys, tokens, passwords in addresses.

Detectors of detect-secrets. Those that know a form look at every text; those that judge by entropy
leave out tests, whose made-up secrets have to look like real ones. Words such as `password =` are
not looked at: settings are full of them. A line that is right says `pragma: allowlist secret`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from re import Pattern

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.scan import scan_file
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.settings import default_settings, transient_settings

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = frozenset({"IPPublicDetector"})
ENTROPY = ("Base64HighEntropyString", "HexHighEntropyString")
HASHES = frozenset({".lock", ".png"})
"""Of packages, which pip compares; pictures."""
RANDOM = frozenset({".json", ".svg"})
"""Of high entropy themselves."""
MADE = frozenset({".git", ".venv", "var"})
ALLOWED = "pragma: allowlist secret"


def main() -> int:
    paths = kept()
    shown = [path for path in paths if path.parts[0] != "tests" and path.suffix not in RANDOM]
    found = sorted({*of_known_form(paths), *of_high_entropy(shown)})
    for line in found:
        print(line, file=sys.stderr)
    print(f"{len(found)} lines look like secrets" if found else "no secret is kept")
    return 1 if found else 0


def kept() -> list[Path]:
    """Files of the repository; without git, every file that is not made by us."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        paths = [Path(name) for name in done.stdout.split("\0") if name]
    else:
        inside = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        paths = [path for path in inside if path.parts[0] not in MADE]
    return [path for path in paths if path.suffix not in HASHES and (ROOT / path).is_file()]


def of_known_form(paths: list[Path]) -> Iterator[str]:
    """Texts are searched whole: line by line takes ten times as long."""
    patterns = list(known_forms())
    for path in paths:
        text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
        for kind, pattern in patterns:
            for match in pattern.finditer(text):
                number = text.count("\n", 0, match.start()) + 1
                if ALLOWED not in text.splitlines()[number - 1]:
                    yield f"{path}:{number}: {kind}"


def known_forms() -> Iterator[tuple[str, Pattern[str]]]:
    for kind, detector in get_mapping_from_secret_type_to_class().items():
        if issubclass(detector, RegexBasedDetector) and detector.__name__ not in LEFT_OUT:
            for pattern in detector().denylist:  # type: ignore[abstract]
                yield kind, pattern


def of_high_entropy(paths: list[Path]) -> Iterator[str]:
    with default_settings() as settings:
        config = settings.json()
    usual = {one["name"]: one for one in config["plugins_used"]}
    config["plugins_used"] = [usual[name] for name in ENTROPY]
    with transient_settings(config):
        for path in paths:
            for secret in scan_file(str(ROOT / path)):
                yield f"{path}:{secret.line_number}: {secret.type}"


if __name__ == "__main__":
    sys.exit(main())
