"""What is written beside rows and tallies."""

from __future__ import annotations

from datetime import datetime

import msgspec

from mlops.contracts.tally import Tally

MAX_EXCERPT_CHARS = 4_096
"""Of a dead letter's payload: enough to see what was wrong with it."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that does not fit the schema, and why."""

    record_id: str
    route: str
    reason: str
    payload_excerpt: str
    at: datetime

    def __post_init__(self) -> None:
        if len(self.payload_excerpt) > MAX_EXCERPT_CHARS:
            raise ValueError(
                f"payload_excerpt has {len(self.payload_excerpt):,} characters, "
                f"at most {MAX_EXCERPT_CHARS:,}"
            )


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A quality score that came after the answer, by the request's id."""

    request_id: str
    name: str
    score: float
    received_at: datetime
    """When it was handed over; it is judged in this second, or in its row's if that is later."""

    def __post_init__(self) -> None:
        if not self.request_id:
            raise ValueError("request_id is empty; expected the id of the request that is scored")
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"score {self.score} of {self.name!r} is outside 0..1")


class ReleaseEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a release. Two equal events are one."""

    release_id: str
    route: str
    at: datetime
    kind: str
    actor: str
    from_share_bp: int
    to_share_bp: int
    reason: str = ""
    detail_json: str = "{}"


def tally_row(tally: Tally) -> tuple[object, ...]:
    """A worker's second as its table has it."""
    entries = tally.entries
    return (
        tally.worker,
        tally.second,
        int(tally.final),
        [entry.route for entry in entries],
        [entry.arm for entry in entries],
        [entry.generation for entry in entries],
        [entry.answered for entry in entries],
        [entry.dropped for entry in entries],
        [entry.in_flight for entry in entries],
    )
