"""Exit codes of the commands that say how something ended. 2 is a wrong use of the command."""

from __future__ import annotations

from typing import Final

EXIT_FAILED: Final = 1
"""It ended, and not well: rolled back, aborted."""

EXIT_NOT_OVER: Final = 3
"""It has not ended: still running at the time limit, or undecided."""

EXIT_NO_ANSWER: Final = 4
"""The other side could not be asked."""

EXIT_INTERRUPTED: Final = 130
"""Ctrl-C, as shells say it."""
