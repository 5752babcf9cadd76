"""Refuse files over 400 lines and functions over 60: past that a reader loses the thread."""

import ast
import sys
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
ROOMS = ("gateway", "agent", "mlops", "cli", "dags", "grafana", "bench", "scripts", "tests")
ROOT = Path(__file__).resolve().parent.parent


def violations(path: Path) -> list[str]:
    source = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT)
    found = []
    lines = source.count("\n")
    if lines > MAX_FILE_LINES:
        found.append(f"{name}: {lines} lines, at most {MAX_FILE_LINES}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(
                    f"{name}:{node.lineno} {node.name}: {length} lines, limit {MAX_FUNCTION_LINES}"
                )
    return found


def main() -> int:
    found = [
        problem
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        for problem in violations(path)
    ]
    print("\n".join(found) or "budgets hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
