"""A worker that offers exchanges in bursts and writes down each that was taken.

`spool_worker.py SPOOL OUT LIMIT [SHIFT]`: OUT gets the request id of every acknowledged offer, a
line each, written after the acknowledgement; LIMIT ends it, 0 goes on until it is killed. Its clock
is SHIFT seconds wrong, a second passes every 100 records, and SIGUSR1 sets it back by `BACK_S`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from gateway.record import ExchangeRecord
from gateway.settings import SpoolSettings
from gateway.spool.writer import SpoolWriter
from mlops.contracts.tally import Tally, TallyEntry
from tests.exchanges import recorded, stamp

SECOND_RECORDS = 100
"""Records in one second of this worker's clock: few, so that kills fall between a row and its
tally."""

BACK_S = 30

BURST = 20
"""Records between two short rests: some 3,000 a second, as much as a recorder takes."""


def main(spool: Path, out: Path, limit: int, shift_s: int = 0) -> None:
    writer = SpoolWriter.open(SpoolSettings(dir=spool), 0)
    record = _record()
    taken = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = answered = told = 0
    first_second = int(time.time()) + shift_s

    def set_back(*_: object) -> None:
        nonlocal first_second
        first_second -= BACK_S

    signal.signal(signal.SIGUSR1, set_back)
    sys.stdout.write(f"ready {writer.worker}\n")
    sys.stdout.flush()
    while not limit or number < limit:
        request_id = f"{writer.worker}:{number}"
        record.request_id = request_id.encode()
        second = first_second + number // SECOND_RECORDS
        record.started_at_us = record.ended_at_us = second * 1_000_000 + number
        if not writer.offer(record):
            time.sleep(0.001)
            continue
        os.write(taken, f"{request_id}\n".encode())
        number += 1
        answered += 1
        if number % BURST == 0:
            time.sleep(0.005)
        if number % SECOND_RECORDS == 0 and second > told:  # as a gateway: never one twice
            while not writer.offer_tally(_tally(writer.worker, second, answered)):
                time.sleep(0.001)
            told, answered = second, 0
    writer.close()


def _tally(worker: str, second: int, answered: int) -> Tally:
    entry = TallyEntry(route="rag", arm="stable", generation=1, answered=answered)
    return Tally(worker=worker, second=second, entries=(entry,))


def _record() -> ExchangeRecord:
    return recorded(
        stamp=stamp(
            model="rag", generation=1, share_bp=0, arm="stable", served_arm="stable",
            version="1", profile="native",
        ),
        request_body=b'{"query_text": "' + b"q" * 700 + b'"}',
        response_body=b'{"relevance_score": 0.5, "answer": "' + b"a" * 1_200 + b'"}',
        latency_us=1_000,
        first_byte_us=1_000,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
