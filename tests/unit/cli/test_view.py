"""What the demo draws, in a terminal and without one."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console
from rich.panel import Panel

from cli.demo.report import Promoted, Report, RolledBack
from cli.demo.traffic import TrafficCounts
from cli.demo.view import STEPS, View
from cli.live import ReleaseView
from mlops.contracts.release import CheckStatus, ReleaseStatus

STATUS = ReleaseStatus(
    id="rel-1",
    route="rag",
    version="1.2.0",
    stable="1.1.0",
    phase="progressing",
    step=1,
    steps=3,
    weight=25.0,
    generation=4,
    reason="demo",
    verdict="undecided",
    reasons=("latency: 40 candidate requests",),
    checks={
        "errors": CheckStatus(
            candidate_count=40,
            control_count=160,
            candidate_value=0.05,
            control_value=0.0,
            effect=0.05,
            e_value=3.2,
            noninferiority_e_value=0.4,
            still_needed=90,
        ),
        "latency": CheckStatus(
            candidate_count=0, control_count=0, e_value=1.0, noninferiority_e_value=1.0
        ),
    },
)
REPORT = Report(
    requests=10,
    answered=10,
    rows=10,
    client_errors=0,
    promoted=Promoted(seconds=40.0, canary_requests=900),
    rolled_back=RolledBack(seconds=9.0, canary_requests=80, reason="latency"),
    false=["one thing"],
)


def drawn(*, terminal: bool) -> str:
    console = Console(file=StringIO(), force_terminal=terminal, width=110, color_system=None)
    view = View(console)
    view.watch(TrafficCounts())
    with view:
        view.say("a sentence")
        view.show(STATUS)
        view.show(STATUS)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_weights_checks_and_story() -> None:
    text = drawn(terminal=True)
    for shown in ("release 1.2.0 on route rag", "weight 25 %", "5.0%", "90 more", "a sentence"):
        assert shown in text


def test_a_pipe_gets_one_line_for_each_change() -> None:
    lines = drawn(terminal=False).splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("a sentence")
    assert "1.2.0 progressing at 25 %, undecided" in lines[1]


def test_the_steps_of_the_story_are_counted() -> None:
    console = Console(file=StringIO(), force_terminal=False, width=110)
    view = View(console)
    view.begin("one thing")
    view.say("and what came of it")
    view.begin("another")
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line.partition("s  ")[2] for line in lines] == [
        f"[1/{STEPS}] one thing",
        "and what came of it",
        f"[2/{STEPS}] another",
    ]
    assert f"1 of {STEPS} steps done" in str_of(view)
    view.end()
    assert f"{STEPS} of {STEPS} steps done" in str_of(view)


def str_of(view: View) -> str:
    console = Console(file=StringIO(), width=110)
    console.print(view.render())
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_picture_holds_the_end_of_the_story(tmp_path: Path) -> None:
    view = View(Console(file=StringIO()))
    view.show(STATUS)
    view.save_picture(tmp_path / "demo.svg", REPORT)
    picture = (tmp_path / "demo.svg").read_text()
    assert picture.startswith("<svg")
    assert "url(" not in picture.replace("url(#", "")
    assert "rows&#160;in&#160;ClickHouse" in picture


def test_a_version_is_drawn_as_it_is_written() -> None:
    """What looks like a style of the terminal's is none."""
    view, console = ReleaseView(), Console(file=StringIO(), width=110, color_system=None)
    view.show(replace(STATUS, version="[red]2"))
    console.print(Panel(view.render(), title=view.title))
    assert "release [red]2 on route rag" in console.file.getvalue()  # type: ignore[attr-defined]
