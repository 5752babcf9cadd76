"""Keeping libraries of data frames out of a process that only inserts and reads lists."""

from __future__ import annotations

import sys
from typing import cast


def leave_out_data_frames(*others: str) -> None:
    """As if pandas, and what `others` names, were not installed; said once, as a process starts.

    ClickHouse's client imports pandas at its first insert where it is installed, and pandas imports
    pyarrow, only to ask whether what it was given is one of theirs: some 60 MiB that a long-lived
    process keeps. `numpy` is 16 MiB more, where nothing else uses it. What has been imported before
    stays.
    """
    modules = cast("dict[str, object]", sys.modules)
    for name in ("pandas", *others):
        modules.setdefault(name, None)
