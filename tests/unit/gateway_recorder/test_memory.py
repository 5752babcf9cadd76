"""The recorder's process looks for cycles seldom, not never."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

from gateway.recorder.memory import COLLECT_AFTER, collect_seldom


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_loaded_is_left_alone_and_new_cycles_are_still_found() -> None:
    usual = gc.get_threshold()
    try:
        collect_seldom()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == COLLECT_AFTER
        knot = weakref.ref(Knot())
        held = [[] for _ in range(COLLECT_AFTER + 1)]
        assert knot() is None
        assert held
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)


def test_clickhouse_s_client_finds_no_data_frames_to_import() -> None:
    """In a process of its own: what a process has imported stays."""
    code = (
        "from gateway.recorder.memory import leave_out_what_is_not_needed as leave_out\n"
        "leave_out()\n"
        "from clickhouse_connect.driver import options\n"
        "print(options.pd, options.np)\n"
    )
    command = [sys.executable, "-W", "ignore::SyntaxWarning", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["None", "None"]
