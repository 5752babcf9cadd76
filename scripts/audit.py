"""`make audit`: known vulnerabilities of everything that is locked, told by the package index.

Ends with 0: none is known; 1: there are some; 2: the index did not tell of some packages, which is
no answer. It asks the network, so it is no part of `make check`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKS = tuple(sorted(path.stem for path in (ROOT / "requirements").glob("*.lock")))
LOCK_S = 900
"""Longest audit of one lock: a question for each of some 200 packages."""


@dataclass
class Found:
    """Of one lock."""

    audited: int = 0
    unknown: list[str] = field(default_factory=list)
    vulnerable: list[str] = field(default_factory=list)


def main() -> int:
    results = {name: parsed(audited(ROOT / f"requirements/{name}.lock")) for name in LOCKS}
    print(f"{'lock':<16}{'audited':>9}{'unknown':>9}{'vulnerable':>12}")
    for name, found in results.items():
        counts = f"{found.audited:>9}{len(found.unknown):>9}{len(found.vulnerable):>12}"
        print(f"{name:<16}{counts}")
    vulnerable = sorted({line for found in results.values() for line in found.vulnerable})
    unknown = sorted({name for found in results.values() for name in found.unknown})
    print(*vulnerable, sep="\n")
    if vulnerable:
        return 1
    if unknown:
        print(f"the index told nothing of {len(unknown)} packages: {', '.join(unknown[:8])} ...")
        return 2
    return 0


def audited(lock: Path) -> dict[str, Any]:
    """What pip-audit says of it, as JSON."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(lock), "--no-deps", "--disable-pip"]
    options = ["--vulnerability-service", "pypi", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=LOCK_S, check=False
    )
    if not done.stdout:
        sys.exit(f"{lock.name}: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def parsed(answer: dict[str, Any]) -> Found:
    """Counts of pip-audit's report."""
    found = Found()
    for package in answer["dependencies"]:
        name = package["name"]
        if "skip_reason" in package:
            found.unknown.append(name)
            continue
        found.audited += 1
        for one in package["vulns"]:
            fixed = ", ".join(one["fix_versions"]) or "no release"
            found.vulnerable.append(f"{name} {package['version']}: {one['id']}, fixed in {fixed}")
    return found


if __name__ == "__main__":
    sys.exit(main())
