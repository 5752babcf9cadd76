"""From a spooled record to what the feature store takes: a row, a tally or a dead letter. Pure."""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime, timedelta

import msgspec

from gateway.features.rules import Rules
from gateway.recorder.calls import Call, call_of
from gateway.recorder.rows import ROW_BYTES, row_of, stamp_of, weight_bytes_of
from gateway.spool.format import (
    BadRecord,
    Frame,
    RecordType,
    SpooledExchange,
    decode_exchange,
    tally_of,
)
from gateway.spool.reader import Position, SpooledRecord
from mlops.contracts.record import Row, problems, unusable, without
from mlops.contracts.tally import Tally
from mlops.feature_store.entries import MAX_EXCERPT_CHARS, DeadLetter

log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_US = 1_000_000

Key = tuple[str, str, int]
"""Route, arm and generation: what tallies count by."""
UNKNOWN = _EPOCH
"""When an exchange ended of which not even that can be read."""
NOBODY: Key = ("", "", 0)
"""Of an exchange of which not even that can be read."""
WHOSE = ("user_id", "session_id", "request_id")
"""Fields that say whose a row is."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One record, read. Exactly one of `row`, `tally` and `letter` is set."""

    start: Position
    end: Position
    weight_bytes: int
    row: Row | None = None
    tally: Tally | None = None
    letter: DeadLetter | None = None
    key: Key = NOBODY
    ended_at_us: int = 0
    """Of its exchange; 0 of a tally, or where it cannot be read."""
    missing: int = 0
    """Records that the spool has lost just before this one."""
    call: Call | None = None
    """Of an exchange in a sampled trace."""

    @property
    def second(self) -> int:
        """The first second that a final tally after this entry may be about."""
        return self.tally.second + 1 if self.tally is not None else self.ended_at_us // _SECOND_US


def entry_of(worker: str, start: Position, record: SpooledRecord, rules: Rules) -> Entry:
    """Read one record. Never fails: what cannot be read or stored becomes a dead letter."""
    frame = record.frame
    record_id = f"{worker}-{record.segment}-{frame.sequence}"
    missing = max(0, record.missing)
    try:
        if frame.kind == RecordType.TALLY:
            tally = msgspec.json.decode(tally_of(frame.body), type=Tally)
            return Entry(
                start=start, end=record.end, weight_bytes=ROW_BYTES, tally=tally, missing=missing
            )
        exchange = _exchange(frame)
        row = row_of(record_id, exchange, rules)
    except Exception as exc:  # one bad record must not keep the others back
        letter = _unread_letter(record_id, frame, _told(record_id, exc))
        return Entry(
            start=start, end=record.end, weight_bytes=ROW_BYTES, letter=letter, missing=missing
        )
    found = problems(row)
    if found and (bad := unusable(row)):
        row = without(row, bad)
        found = problems(row)
    return Entry(
        start=start,
        end=record.end,
        weight_bytes=weight_bytes_of(row),
        row=None if found else row,
        letter=letter_of(row, "; ".join(found)) if found else None,
        key=(row.route, row.arm, row.generation),
        ended_at_us=exchange.ended_at_us,
        missing=missing,
        call=call_of(exchange),
    )


def _exchange(frame: Frame) -> SpooledExchange:
    if frame.kind != RecordType.EXCHANGE:
        raise BadRecord(f"type {frame.kind}, expected one of {[int(x) for x in RecordType]}")
    return decode_exchange(frame.body)


def letter_of(row: Row, reason: str) -> DeadLetter:
    """The dead letter of a row that cannot be stored.

    It begins with whose it is: a person is erased by the id in it, which a long query or a vector
    before it would push out.
    """
    fields = msgspec.structs.asdict(row)
    whose = {name: fields[name] for name in WHOSE}
    excerpt = msgspec.json.encode(whose | fields).decode()[:MAX_EXCERPT_CHARS]
    return DeadLetter(
        record_id=row.record_id,
        route=row.route,
        reason=reason,
        payload_excerpt=excerpt,
        at=row.ended_at,
    )


def _told(record_id: str, failure: Exception) -> str:
    """Why a record cannot be read: logged, and the reason of its letter.

    Of an exception that is not ours the message is left out: it may quote what is to be redacted.
    """
    reason = type(failure).__name__
    if isinstance(failure, BadRecord):
        reason = str(failure)
    where = "".join(traceback.format_tb(failure.__traceback__)).rstrip()
    log.error("record %s cannot be read: %s\n%s", record_id, reason, where)
    return f"cannot be read: {reason}"


def _unread_letter(record_id: str, frame: Frame, reason: str) -> DeadLetter:
    """Without anything of the bodies: nothing is known of what is to be redacted in them."""
    route, at = "", UNKNOWN
    known: dict[str, object] = {"type": frame.kind, "bytes": len(frame.body)}
    try:
        record = decode_exchange(frame.body)
        at = _EPOCH + timedelta(microseconds=record.ended_at_us)
        known |= {"status": record.status, "latency_us": record.latency_us}
        route = stamp_of(record.stamp).route
    except (ValueError, OverflowError):
        pass  # then it is a dead letter without them
    return DeadLetter(
        record_id=record_id,
        route=route,
        reason=reason,
        payload_excerpt=msgspec.json.encode(known).decode(),
        at=at,
    )
