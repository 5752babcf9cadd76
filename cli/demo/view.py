"""What the demo shows while it runs: weights, rates and evidence, live in a terminal.

Where the output is no terminal (CI, a pipe), one line per change instead.
"""

from __future__ import annotations

import re
import time
from collections import deque
from io import StringIO
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.demo.report import Report
from cli.demo.traffic import TrafficCounts
from cli.live import ReleaseView
from mlops.contracts.release import ReleaseStatus

STEPS = 6
"""Of the story."""
MAX_LINES = 14
"""Of the story so far; the newest are shown."""

_FONT_FACE = re.compile(r"@font-face \{.*?\n    \}\n", re.DOTALL)
PICTURE_COLUMNS = 110


class View:
    """Draws the story. `with view:` takes the terminal and gives it back."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: deque[Text] = deque(maxlen=MAX_LINES)
        self._counts = TrafficCounts()
        self._status: ReleaseStatus | None = None
        self._release = ReleaseView()
        self._started_at_s = time.monotonic()
        self._step = 0
        """That is being done, from 1 on."""
        self._rate: deque[tuple[float, int]] = deque(maxlen=20)
        self._live = Live(console=console, auto_refresh=False, get_renderable=self.render)

    def __enter__(self) -> View:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def save_picture(self, path: Path, report: Report) -> None:
        """Write what the terminal shows at the end as an SVG."""
        console = Console(record=True, width=PICTURE_COLUMNS, file=StringIO())
        console.print(self.render())
        print_report(console, report)
        # Without the fonts that rich would have the reader's browser fetch from another host.
        picture = _FONT_FACE.sub("", console.export_svg(title="make demo"))
        path.write_text(picture, encoding="utf-8")

    def watch(self, counts: TrafficCounts) -> None:
        """Draw these counts; they change while it draws."""
        self._counts = counts

    def begin(self, sentence: str) -> None:
        """Say what is done next; one more step of the story has begun."""
        self._step += 1
        self.say(f"[{self._step}/{STEPS}] {sentence}")

    def end(self) -> None:
        """The last step is done too."""
        self._step = STEPS + 1
        self._refresh(None)

    def say(self, sentence: str) -> None:
        """Add a sentence to the story."""
        line = Text.assemble((f"{time.monotonic() - self._started_at_s:6.1f} s  ", "dim"), sentence)
        self._lines.append(line)
        self._refresh(line)

    def show(self, status: ReleaseStatus) -> None:
        """Show where the release stands."""
        before, self._status = self._status, status
        self._release.show(status)
        self._rate.append((time.monotonic(), len(self._counts.answered)))
        if before is None or _headline(status) != _headline(before):
            self.say(
                f"{status.version} {status.phase} at {status.weight:g} %, "
                f"{status.verdict}: {'; '.join(status.reasons)}"
            )
        else:
            self._refresh(None)

    def _refresh(self, line: Text | None) -> None:
        if self._console.is_terminal:
            self._live.refresh()
        elif line is not None:
            self._console.print(line, soft_wrap=True)

    # ---- drawing -------------------------------------------------------------------------------

    def render(self) -> Group:
        """What stands in the terminal now."""
        parts: list[Panel] = [Panel(self._traffic(), title="traffic", title_align="left")]
        if self._status is not None:
            release = self._release
            parts.append(Panel(release.render(), title=release.title, title_align="left"))
        done = max(0, self._step - 1)
        story = Group(ProgressBar(total=STEPS, completed=done), Text("\n").join(self._lines))
        title = f"story: {done} of {STEPS} steps done"
        parts.append(Panel(story, title=title, title_align="left"))
        return Group(*parts)

    def _traffic(self) -> Table:
        counts = self._counts
        table = Table.grid(padding=(0, 3))
        table.add_row(
            f"{self._requests_per_s():.0f} queries/s",
            f"{len(counts.answered)} answered",
            f"{sum(n for status, n in counts.statuses.items() if status >= 500)} failed upstream",
            f"{counts.client_errors} failed by the gateway",
        )
        return table

    def _requests_per_s(self) -> float:
        if len(self._rate) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._rate[0], self._rate[-1]
        return (last - first) / max(1e-9, last_s - first_s)


def _headline(status: ReleaseStatus) -> tuple[str, float, str]:
    return status.phase, status.weight, status.verdict


def print_report(console: Console, report: Report) -> None:
    """The end of the story, as a table."""
    table = Table(title="what was proved", title_justify="left", show_header=False, box=None)
    table.add_row("requests", str(report.requests))
    table.add_row("answered", str(report.answered))
    table.add_row("rows in ClickHouse", str(report.rows))
    table.add_row("client errors of the gateway", str(report.client_errors))
    if report.promoted:
        table.add_row(
            "better version promoted",
            f"after {report.promoted.seconds:g} s and {report.promoted.canary_requests} requests",
        )
    if report.rolled_back:
        table.add_row(
            "worse version rolled back",
            f"after {report.rolled_back.seconds:g} s and "
            f"{report.rolled_back.canary_requests} requests: {report.rolled_back.reason}",
        )
    console.print(table)
    for sentence in report.false:
        console.print(Text(f"not as it must be: {sentence}", style="bold red"))
