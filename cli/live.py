"""A release as a terminal shows it: weight, verdict, both arms over time, evidence so far.

The demo and `release status` draw it.
`ReleaseView` remembers what it was shown, for the sparklines.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mlops.contracts.release import ReleaseStatus

VERDICT_STYLES: Final = {
    "healthy": "bold green",
    "regressed": "bold red",
    "undecided": "yellow",
    "invalid": "magenta",
}
WEIGHT_CELLS: Final = 40
EVIDENCE_CELLS: Final = 10
SPARK_CELLS: Final = 16
"""Values that are remembered of each arm and check; older ones are forgotten."""
DEFAULT_ALPHA: Final = 0.05
"""Of the default policy; lists of releases do not name theirs."""
_SPARKS: Final = "▁▂▃▄▅▆▇█"


class ReleaseView:
    """What is drawn of one release, from one status to the next."""

    def __init__(self) -> None:
        self._status: ReleaseStatus | None = None
        self._past: dict[str, deque[tuple[float | None, float | None]]] = {}

    def show(self, status: ReleaseStatus) -> None:
        """Take in a status; another release than before starts from nothing."""
        if self._status is None or self._status.id != status.id:
            self._past = {}
        self._status = status
        for name, check in status.checks.items():
            past = self._past.setdefault(name, deque(maxlen=SPARK_CELLS))
            past.append((check.candidate_value, check.control_value))

    @property
    def title(self) -> str:
        assert self._status is not None, "shown before it is drawn"
        return f"release {self._status.version} on route {self._status.route}"

    def render(self) -> Group:
        """What stands in the terminal now."""
        status = self._status
        assert status is not None, "shown before it is drawn"
        head = Text.assemble(
            f"{status.phase}, step {status.step} of {status.steps}, weight {status.weight:g} %   ",
            (status.verdict, VERDICT_STYLES.get(status.verdict, "default")),
        )
        filled = round(WEIGHT_CELLS * status.weight / 100)
        weight = Text.assemble(("█" * filled, "cyan"), ("░" * (WEIGHT_CELLS - filled), "dim"))
        reasons = Text("; ".join(status.reasons), style="italic")
        return Group(head, weight, self._checks(status), reasons)

    def _checks(self, status: ReleaseStatus) -> Table:
        alpha = status.policy.get("alpha", DEFAULT_ALPHA)
        beta = status.policy.get("beta", DEFAULT_ALPHA)
        table = Table(box=None, padding=(0, 2), header_style="dim")
        for column in ("check", "requests", "canary", "", "control", "", "harm", "safe", "needed"):
            is_number = column in ("requests", "canary", "control", "needed")
            table.add_column(column, justify="right" if is_number else "left", no_wrap=True)
        for name, check in status.checks.items():
            canary, control = sparklines(self._past[name])
            table.add_row(
                name,
                str(check.candidate_count),
                value_text(name, check.candidate_value),
                Text(canary, style="cyan"),
                value_text(name, check.control_value),
                Text(control, style="dim"),
                _evidence(check.e_value, alpha, "red"),
                _evidence(check.noninferiority_e_value, beta, "green"),
                "" if check.still_needed is None else f"{check.still_needed} more",
            )
        return table


def sparklines(past: Sequence[tuple[float | None, float | None]]) -> tuple[str, str]:
    """Both arms' values over time, on one scale; a blank where there was none."""
    known = [value for pair in past for value in pair if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)

    def spark(value: float | None) -> str:
        if value is None:
            return " "
        if high == low:
            return _SPARKS[0]
        return _SPARKS[round((value - low) / (high - low) * (len(_SPARKS) - 1))]

    return "".join(spark(pair[0]) for pair in past), "".join(spark(pair[1]) for pair in past)


def evidence_share(e_value: float, error_rate: float) -> float:
    """How far an e-value has come on its way to 1 / `error_rate`, on a log scale: 0 to 1."""
    if e_value <= 1.0 or not 0.0 < error_rate < 1.0:
        return 0.0
    return min(1.0, math.log(e_value) / -math.log(error_rate))


def _evidence(e_value: float, error_rate: float, style: str) -> Text:
    filled = math.floor(EVIDENCE_CELLS * evidence_share(e_value, error_rate))
    return Text.assemble(
        ("█" * filled, style),
        ("░" * (EVIDENCE_CELLS - filled), "dim"),
        f" {e_value:.2g}" if e_value < 1e6 else " >1e6",
    )


def value_text(check: str, value: float | None) -> str:
    """A check's value with its unit; empty without data."""
    if value is None:
        return ""
    match check:
        case "errors" | "client_errors":
            return f"{value:.1%}"
        case "latency" | "ttft":
            return f"{value / 1000:.1f} ms"
        case _:
            return f"{value:.3f}"
