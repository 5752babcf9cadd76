"""What can go wrong between us and ClickHouse, told apart by what the caller should do."""

from __future__ import annotations


class Unavailable(Exception):
    """ClickHouse is away, busy or not set up. Try the same again later.

    After an insert the outcome is unknown: repeating it with the same token is safe.
    """


class Refused(Exception):
    """The batch itself does not fit. Trying it again changes nothing; nothing of it was stored."""
