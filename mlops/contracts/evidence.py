"""What the feature store tells the agent: counts per second, and how far the log is complete.

Counts are whole numbers and additive, so that seconds merge into blocks exactly. Latencies and
lengths are kept as log-histograms in which 10 % is exactly five bins, scores as histograms of equal
bins.
"""

from __future__ import annotations

from math import floor, log

import msgspec

BINS_PER_TEN_PERCENT = 5
BIN_RATIO: float = 1.1 ** (1 / BINS_PER_TEN_PERCENT)
"""Upper edge of a bin over its lower edge, of every log-histogram."""
LAST_BIN = 819
"""Of durations about ten minutes, of counts about six million; everything above lies here."""
LATENCY_FIRST_EDGE_US = 100
"""Everything faster lies in bin 0."""
COUNT_FIRST_EDGE = 1
"""Of characters and tokens: 0 and 1 lie in bin 0."""

SCORE_BINS = 200
"""Of a score in 0..1: bin i holds i/200 and what lies up to (i+1)/200; the last one 1.0 too."""

KEY_GROUPS = 16
"""Groups that keys fall into by their bucket: keys of one group share their fate only by chance."""
LONG_OPEN_S = 60
"""The greatest age that tallies tell apart; what is open longer hangs."""


def latency_bin(latency_us: float) -> int:
    """The bin of a duration in microseconds; the same formula as the view in ClickHouse."""
    return _log_bin(latency_us, LATENCY_FIRST_EDGE_US)


def count_bin(number: float) -> int:
    """The bin of a number of characters or tokens: the formula of `latency_bin` from 1 on.

    Bin i holds numbers from `BIN_RATIO ** i` up to, and without, `BIN_RATIO ** (i + 1)`. Below 50
    the bins are narrower than one, so each whole number has its own and some bins have none.
    """
    return _log_bin(number, COUNT_FIRST_EDGE)


def score_bin(score: float) -> int:
    """The bin of a score in 0..1."""
    return min(SCORE_BINS - 1, floor(score * SCORE_BINS))


def _log_bin(value: float, first_edge: int) -> int:
    if value <= first_edge:
        return 0
    return min(LAST_BIN, floor(log(value / first_edge) / log(BIN_RATIO)))


class SecondCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that ended in one second, for one route, generation and assigned arm.

    `rows` counts every kind and is for completeness; everything else counts `kind = served` only.
    """

    second: int
    """Unix time of `ended_at`, whole seconds."""
    generation: int
    arm: str
    rows: int
    requests: int
    """Served and not cancelled."""
    errors: int
    """First attempt ended in one of `ERROR_OUTCOMES`."""
    client_errors: int = 0
    cancelled: int = 0
    latency_bins: dict[int, int] = {}
    """Of `requests`, by `latency_bin(latency_us)`."""
    first_byte_bins: dict[int, int] = {}
    cancelled_bins: dict[int, int] = {}
    """Elapsed time of cancelled requests: over the threshold they count as exceedances."""
    first_event_bins: dict[int, int] = {}
    """Of `requests` answered with server-sent events, by `latency_bin(first_event_us)`."""
    gap_bins: dict[int, int] = {}
    """Of `requests` with more than one event, by `latency_bin(max_event_gap_us)`."""
    refusals: int = 0
    refusal_known: int = 0
    """Of `requests`, those that can be told to be refused or not: `refusals` is out of these."""
    empty_retrievals: int = 0
    retrieval_known: int = 0
    """Of `requests`, those that said what they retrieved: `empty_retrievals` is out of these."""
    answer_chars_bins: dict[int, int] = {}
    """Of `requests` whose answer has a text, by `count_bin(answer_chars)`."""
    completion_token_bins: dict[int, int] = {}
    """Of `requests` that name it, by `count_bin(completion_tokens)`."""
    score_bins: dict[int, int] = {}
    """Of `requests` that have one, by `score_bin(relevance_score)`."""
    request_groups: dict[int, int] = {}
    """Of `requests`, by `bucket % KEY_GROUPS`: tells how unequal keys are."""
    error_groups: dict[int, int] = {}
    """Of `errors`, likewise: tells whether errors come in bursts of one key."""


class ScoreCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Late scores of one name that arrived in one second, for one generation and arm.

    Scores lie in 0..1. `total` and `total_squares` are their sum and the sum of their squares.
    """

    second: int
    generation: int
    arm: str
    name: str
    count: int
    total: float
    total_squares: float
    bins: dict[int, int] = {}
    """By `score_bin`."""


class AnsweredCounts(msgspec.Struct, frozen=True, kw_only=True):
    """From the workers' tallies, summed over workers."""

    second: int
    generation: int
    arm: str
    answered: int
    dropped: int
    long_open: int = 0
    """Exchanges that were open for more than `LONG_OPEN_S` at the end of the second."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One read of the log for one route: everything from `since` up to the watermark."""

    route: str
    since: int
    """First second read."""
    closed_through: int
    """Every live worker's tally has passed this second; later seconds are not complete yet."""
    log_through: int = 0
    """The same where the reader's `until` ended the read sooner: how far the log's clock is."""
    seconds: tuple[SecondCounts, ...] = ()
    scores: tuple[ScoreCounts, ...] = ()
    answered: tuple[AnsweredCounts, ...] = ()


class EmbeddingSums(msgspec.Struct, frozen=True, kw_only=True):
    """What the queries of some seconds were about, for drift: one route, generation, arm and length
    of embedding. Sums are additive, so that spans merge into blocks of any size.

    Of rows with `kind = served`, however they ended. A generation and an arm name one version, so
    that embeddings of two spaces are never added.
    """

    second: int
    """First second of the span (Unix time); the hour of the queries follows from it."""
    generation: int
    arm: str
    dims: int
    """Numbers in each embedding; 0 gathers the queries that have none."""
    count: int
    """Queries, each with an embedding of `dims` numbers."""
    sum: list[float]
    """Element-wise sum of their embeddings: over `count` it is the mean embedding."""
    squares: float
    """Sum of the squared lengths of their embeddings; `count` where each has length one."""
    texts: int = 0
    """Of them, queries with a text."""
    text_chars_total: int = 0
    text_chars_squares: float = 0.0
    text_chars_bins: dict[int, int] = {}
    """By `count_bin` of the characters of the text."""
    prompts: int = 0
    """Of them, queries whose prompt was counted in tokens."""
    prompt_tokens_total: int = 0
    prompt_tokens_squares: float = 0.0
    prompt_token_bins: dict[int, int] = {}
    """By `count_bin`."""
    scripts: dict[str, int] = {}
    """Texts by script, the part of a language that can be told in passing: latin, cyrillic,
    arabic_hebrew, south_asian, east_asian, other."""


class PairSide(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two answers to a mirrored request."""

    version: str
    arm: str
    """That answered."""
    outcome: str
    status: int
    latency_us: int
    relevance_score: float | None
    answer_chars: int | None
    retrieved_ids: list[str]
    retrieved_scores: list[float]


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was answered twice: to the user, and by the mirror beside it."""

    request_id: str
    generation: int
    ended_at_us: int
    """When the later of the two ended: microseconds of Unix time."""
    served: PairSide
    mirror: PairSide
