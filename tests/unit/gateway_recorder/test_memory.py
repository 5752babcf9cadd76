"""The recorder's process looks for cycles seldom, not never."""

from __future__ import annotations

import gc
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
