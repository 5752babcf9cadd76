"""What `spool cat` prints: the records of a spool, for a person or a program to read."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from gateway.record import KINDS, OUTCOMES, WITHHELD
from gateway.spool.format import RecordType, SpooledExchange, decode_exchange, tally_of
from gateway.spool.reader import SpooledRecord
from gateway.stamp import Stamp
from mlops.contracts.tally import Tally

_BODIES = ("request_body", "response_body")


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    worker: str
    segment: int
    sequence: int
    """Of this worker, from 1 on and without gaps."""
    missing_before: int | UnsetType = UNSET
    """Sequence numbers that were skipped before this one; absent: none."""


class UnstoredExchange(_Place, frozen=True, kw_only=True):
    """An answered request that is not acknowledged yet; times in microseconds, UTC."""

    route: str
    model: str
    generation: int
    share_bp: int
    """Basis points that the canary was to get then."""
    arm: str
    """That the request was assigned to."""
    served_arm: str
    """That answered: stable, where the canary could not."""
    version: str
    """That answered."""
    endpoint: str = ""
    """Server that was asked last; empty: none was."""
    first_attempt_endpoint: str = ""
    """Server of the first of several attempts; empty: there was one."""
    profile: str
    """How the recorder reads the bodies."""
    outcome: str
    first_attempt_outcome: str
    """That the assigned arm is judged by."""
    kind: str
    """`served`, `mirror` or `override`."""
    attempts: int
    status: int
    """0: there was none."""
    bucket: int
    events: int
    """Of a stream of server-sent events."""
    max_event_gap_us: int
    started_at_us: int
    ended_at_us: int
    latency_us: int
    first_byte_us: int
    request_bytes: int
    response_bytes: int
    request_body_cut: bool
    """Longer than what is kept."""
    response_body_cut: bool
    request_id: str
    method: str
    target: str
    request_content_type: str
    request_content_encoding: str
    response_content_type: str
    response_content_encoding: str
    withheld: str
    """Why there are no bodies; empty: nothing was kept back."""
    first_event_us: int
    traceparent: str
    request_body: str | UnsetType = UNSET
    """As it was sent, with `--bodies`."""
    response_body: str | UnsetType = UNSET


class UnstoredTally(_Place, frozen=True, kw_only=True):
    """What a worker said once a second that it answered."""

    tally: Tally


class UnreadableRecord(_Place, frozen=True, kw_only=True):
    """A whole record that this program cannot read."""

    unreadable: str
    """Why."""
    bytes: int


def shown(
    worker: str, record: SpooledRecord, *, bodies: bool
) -> UnstoredExchange | UnstoredTally | UnreadableRecord:
    """A record to be printed; bodies only where they were asked for."""
    place: dict[str, object] = {
        "worker": worker,
        "segment": record.segment,
        "sequence": record.frame.sequence,
    }
    if record.missing:
        place["missing_before"] = record.missing
    body = record.frame.body
    try:
        if record.frame.kind == RecordType.TALLY:
            tally = msgspec.json.decode(tally_of(body), type=Tally)
            return msgspec.convert(place | {"tally": tally}, UnstoredTally)
        said = _said(decode_exchange(body), bodies=bodies)
        return msgspec.convert(place | said, UnstoredExchange)
    except (ValueError, IndexError) as exc:  # IndexError: a later version's outcome or kind
        return msgspec.convert(
            place | {"unreadable": str(exc), "bytes": len(body)}, UnreadableRecord
        )


def _said(record: SpooledExchange, *, bodies: bool) -> dict[str, object]:
    stamp = msgspec.json.decode(record.stamp, type=Stamp)
    values = {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for name in record.__struct_fields__
        if name in UnstoredExchange.__struct_fields__ and (bodies or name not in _BODIES)
        for value in (getattr(record, name),)
    }
    return {
        **msgspec.to_builtins(stamp),
        **values,
        "kind": KINDS[record.kind],
        "outcome": OUTCOMES[record.outcome],
        "first_attempt_outcome": OUTCOMES[record.first_attempt_outcome],
        "withheld": WITHHELD[record.withheld],
    }
