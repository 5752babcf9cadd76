"""A release as a terminal shows it: weight, verdict, both arms over time, evidence so far.

The demo and `release status` draw it.
`ReleaseView` remembers what it was shown, for the sparklines.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderResult
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
SPARK_CELLS: Final = 16
"""Values that are remembered of each arm and check; older ones are forgotten."""
DEFAULT_ALPHA: Final = 0.05
"""Of the default policy; lists of releases do not name theirs."""
_SPARKS: Final = "▁▂▃▄▅▆▇█"


Past = Sequence[tuple[float | None, float | None]]
"""Values of canary and control, oldest first."""


class Size(NamedTuple):
    """How much of each check there is room for."""

    spark: int
    evidence: int
    gap: int
    needed: bool


SIZES: Final = {
    130: Size(spark=SPARK_CELLS, evidence=10, gap=2, needed=True),
    105: Size(spark=8, evidence=5, gap=1, needed=True),
    0: Size(spark=6, evidence=4, gap=1, needed=False),
}
"""By the least columns of a terminal that each needs."""


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
    def title(self) -> Text:
        """Of the panel that frames it."""
        assert self._status is not None, "shown before it is drawn"
        return Text(f"release {self._status.version} on route {self._status.route}")

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
        said = status.summary or "; ".join(status.reasons)  # an older agent sends no summary
        return Group(Text(said, style="bold"), head, weight, self.evidence())

    def evidence(self) -> Evidence:
        """Each check: both arms over time, and how far its evidence has come."""
        assert self._status is not None, "shown before it is drawn"
        return Evidence(self._status, self._past)


class Evidence:
    """A table that fits its terminal: 76 columns are enough, more show more of the past."""

    def __init__(self, status: ReleaseStatus, past: Mapping[str, Past]) -> None:
        self._status = status
        self._past = past

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        yield self._table(next(SIZES[least] for least in SIZES if options.max_width >= least))

    def _table(self, size: Size) -> Table:
        alpha = self._status.policy.get("alpha", DEFAULT_ALPHA)
        beta = self._status.policy.get("beta", DEFAULT_ALPHA)
        table = Table(box=None, padding=(0, size.gap, 0, 0), header_style="dim")
        table.add_column("check", overflow="ellipsis")
        columns = ["requests", "canary", "", "control", "", "worse", "no worse"]
        for column in [*columns, *(("needed",) if size.needed else ())]:
            is_number = column in ("requests", "canary", "control", "needed")
            table.add_column(column, justify="right" if is_number else "left", no_wrap=True)
        for name, check in self._status.checks.items():
            canary, control = sparklines(list(self._past[name])[-size.spark :])
            cells: list[str | Text] = [
                f"{check.candidate_count:,}",
                value_text(name, check.candidate_value),
                Text(canary, style="cyan"),
                value_text(name, check.control_value),
                Text(control, style="dim"),
                _evidence(check.e_value, alpha, "red", size.evidence),
                _evidence(check.noninferiority_e_value, beta, "green", size.evidence),
            ]
            if size.needed:
                more = check.still_needed
                cells.append("" if more is None else f"{more:,} more")
            table.add_row(name.replace("_", " "), *cells)
        return table


def sparklines(past: Past) -> tuple[str, str]:
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


def _evidence(e_value: float, error_rate: float, style: str, cells: int) -> Text:
    filled = math.floor(cells * evidence_share(e_value, error_rate))
    return Text.assemble(
        ("█" * filled, style),
        ("░" * (cells - filled), "dim"),
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
