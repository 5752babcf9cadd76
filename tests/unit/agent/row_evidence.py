"""A log of rows as the feature store would give it: plainly, row by row."""

from __future__ import annotations

from collections import Counter, defaultdict
from math import floor, isnan

from agent.rehearsal import Past
from agent.row_columns import ARMS, CLIENT_GONE, RowColumns, generations_of
from mlops.contracts.evidence import (
    AnsweredCounts,
    Evidence,
    SecondCounts,
    latency_bin,
    score_bin,
)
from mlops.contracts.plan import Arm


def evidence_of(rows: RowColumns) -> tuple[Evidence, Past]:
    """Every second of it, and what was asked for when."""
    seconds = [floor(ts) for ts in rows.ts.tolist()]
    generations, shares = generations_of(rows.ts.astype(int), rows.weight)
    counted: dict[tuple[int, str], Counted] = defaultdict(Counted)
    for index, second in enumerate(seconds):
        counted[second, ARMS[rows.arm[index]]].add(rows, index)
    found = [
        SecondCounts(
            second=second,
            generation=generations[second],
            arm=arm,
            **one.sums,
            **one.bins,
        )
        for (second, arm), one in sorted(counted.items())
    ]
    evidence = Evidence(
        route="rows",
        since=seconds[0],
        closed_through=seconds[-1],
        seconds=tuple(found),
        answered=tuple(
            AnsweredCounts(
                second=one.second,
                generation=one.generation,
                arm=one.arm,
                answered=one.rows,
                dropped=0,
            )
            for one in found
        ),
    )
    return evidence, past_of(evidence, shares)


class Counted:
    """Of one arm in one second."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.bins: dict[str, Counter[int]] = defaultdict(Counter)

    def add(self, rows: RowColumns, index: int) -> None:
        status, group = int(rows.status[index]), int(rows.key_group[index])
        is_gone, is_failed = status == CLIENT_GONE, status >= 500 or status == 429
        is_refused = 400 <= status < 500 and not is_gone and not is_failed
        self.sums.update(
            rows=1,
            requests=int(not is_gone),
            cancelled=int(is_gone),
            errors=int(is_failed),
            client_errors=int(is_refused),
        )
        self.bins["request_groups"][group] += not is_gone
        self.bins["error_groups"][group] += is_failed
        self._time("cancelled_bins" if is_gone else "latency_bins", rows.latency_ms[index])
        if rows.ttft_ms is not None and not is_gone:
            self._time("first_byte_bins", rows.ttft_ms[index])
        if rows.score is not None and not is_gone and not isnan(rows.score[index]):
            self.bins["score_bins"][score_bin(float(rows.score[index]))] += 1

    def _time(self, name: str, took_ms: float) -> None:
        if not isnan(took_ms):
            self.bins[name][latency_bin(1000 * float(took_ms))] += 1


def past_of(evidence: Evidence, shares: dict[int, int]) -> Past:
    """Which generations had the holdback."""
    more: Counter[int] = Counter()
    for one in evidence.seconds:
        more[one.generation] += one.rows * ((one.arm == Arm.HOLDBACK) - (one.arm == Arm.CANARY))
    return Past(
        since_s=evidence.since,
        shares={key: share for key, share in shares.items() if more[key] <= 0},
        holdback_shares={key: share for key, share in shares.items() if more[key] > 0},
    )
