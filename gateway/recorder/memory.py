"""What keeps the process of a recorder quick: said once, when it starts."""

from __future__ import annotations

import gc

COLLECT_AFTER = 50_000
"""Objects made and not yet gone. The two batches in hand are fewer, and reference counts free them:
with the usual 700, a quarter of the recorder's time went into looking for cycles in rows."""


def collect_seldom() -> None:
    """Of a process that is a recorder: what is loaded now stays, and nothing on its path is cyclic.

    What failures leave behind in cycles is still found.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
