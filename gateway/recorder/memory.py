"""What keeps the process of a recorder small and quick: said once, when it starts."""

from __future__ import annotations

import gc
import sys
from typing import cast

COLLECT_AFTER = 50_000
"""Objects made and not yet gone. The two batches in hand are fewer, and reference counts free them:
with the usual 700, a quarter of the recorder's time went into looking for cycles in rows."""

NOT_NEEDED = ("pandas", "numpy")
"""ClickHouse's client imports them at its first insert where they are installed, and pandas imports
pyarrow, only to ask whether what it was given is one of theirs. A recorder gives lists."""


def collect_seldom() -> None:
    """Of a process that is a recorder: what is loaded now stays, and nothing on its path is cyclic.

    What failures leave behind in cycles is still found.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def leave_out_what_is_not_needed() -> None:
    """Of a process that is a recorder: as if `NOT_NEEDED` were not installed, which is 80 MiB less.

    What has been imported before stays.
    """
    modules = cast("dict[str, object]", sys.modules)
    for name in NOT_NEEDED:
        modules.setdefault(name, None)
