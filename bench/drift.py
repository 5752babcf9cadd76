"""Drift on real text: alarms while nothing changes, and queries until a change is noticed.

Queries are drawn from real trivia questions of twelve lists (and real news of four topics); the
reference is 2,000 of them. Then a part of the queries comes from a list that was not
among them. Blocks of 20 queries, as sums. Beside ours stand rules with the usual thresholds, over
windows of the last 100 queries.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from agent.judge.drift import EmbeddingDrift, FeatureDrift, psi
from bench.corpora import embedded, news, trivia
from bench.report import Measured, write

Vectors = NDArray[np.float32]

BLOCK = 20
REFERENCE = 2000
NULL_STREAMS, NULL_QUERIES = 30, 20_000
BEFORE, AFTER, STREAMS = 1000, 4000, 40
USUAL = ("2015", "2016", "anime", "artandliterature", "computers", "disney", "entertainment",
         "games", "general", "leagueoflegends", "music", "sports")  # fmt: skip
NEW_LISTS = ("startrek", "finalfantasy", "worldcapitals")
NEW_TOPIC = "tech"
"""Of the news."""


def drawn(rng: np.random.Generator, pool: Vectors, count: int) -> Vectors:
    return pool[rng.integers(0, len(pool), count)]


def mixed(rng: np.random.Generator, pool: Vectors, new: Vectors, part: float) -> Vectors:
    """Queries as before, then some of them new."""
    usual = drawn(rng, pool, BEFORE + AFTER)
    is_new = np.append(np.zeros(BEFORE, bool), rng.random(AFTER) < part)
    usual[is_new] = drawn(rng, new, int(is_new.sum()))
    return usual


def first_alarm(detector: EmbeddingDrift, stream: Vectors) -> float:
    """Queries until the first alarm."""
    for start in range(0, len(stream), BLOCK):
        block = stream[start : start + BLOCK]
        if detector.absorb(len(block), block.sum(axis=0, dtype=np.float64)):
            return float(start + len(block))
    return inf


def quiet(name: str, pool: Vectors) -> Measured:
    alarms = 0
    for seed in range(NULL_STREAMS):
        rng = np.random.default_rng(seed)
        detector = EmbeddingDrift(drawn(rng, pool, REFERENCE))
        alarms += first_alarm(detector, drawn(rng, pool, NULL_QUERIES)) < inf
    return Measured(
        name=f"{name}: runs with an alarm while nothing changes, {NULL_STREAMS} x {NULL_QUERIES}",
        value=alarms,
        unit="runs",
        goal="<= 0",
        holds=alarms == 0,
        peers=windows_quiet(pool),
    )


def noticed(name: str, pool: Vectors, new: Vectors, part: float, goal: float) -> Measured:
    delays, early = [], 0
    for seed in range(STREAMS):
        rng = np.random.default_rng(1000 + seed)
        detector = EmbeddingDrift(drawn(rng, pool, REFERENCE))
        at = first_alarm(detector, mixed(rng, pool, new, part))
        early += at <= BEFORE
        delays.append(at - BEFORE if at > BEFORE else inf)
    found = sum(delay < inf for delay in delays) / STREAMS
    return Measured(
        name=f"{name}: {part:.0%} from then on, {STREAMS} streams",
        value=median(delays),
        unit="queries",
        goal=f"<= {goal:g}" if goal < inf else "",
        holds=median(delays) <= goal,
        peers={
            "noticed, %": 100 * found,
            "too early": early,
            "p90": float(np.quantile(delays, 0.9)),
        },
    )


# ---- usual rules -------------------------------------------------------------------------------


def windows_quiet(pool: Vectors) -> dict[str, float]:
    """Percent of runs of 20,000 queries in which a rule over windows of 100 alarms."""
    rules: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], bool]] = {
        "KS any of 8, p < 0.05 / 8": lambda a, b: (
            min(ks_2samp(a[:, i], b[:, i]).pvalue for i in range(8)) < 0.05 / 8
        ),
        "PSI any of 8 > 0.2": lambda a, b: max(_psi(a[:, i], b[:, i]) for i in range(8)) > 0.2,
    }
    alarms = dict.fromkeys(rules, 0)
    runs = 5
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        known = drawn(rng, pool, REFERENCE).astype(np.float64)
        axes = np.linalg.svd(known - known.mean(axis=0), full_matrices=False)[2][:8].T
        stream = drawn(rng, pool, NULL_QUERIES).astype(np.float64) @ axes
        for name, rule in rules.items():
            windows = range(0, NULL_QUERIES, 100)
            alarms[name] += any(rule(known @ axes, stream[at : at + 100]) for at in windows)
    return {name: 100 * count / runs for name, count in alarms.items()}


def _psi(known: NDArray[np.float64], seen: NDArray[np.float64]) -> float:
    edges = np.quantile(known, np.linspace(0, 1, 11)[1:-1])
    counts = [np.bincount(np.searchsorted(edges, one), minlength=10) for one in (known, seen)]
    return psi(*counts)


# ---- lengths -----------------------------------------------------------------------------------


def lengths(texts: dict[str, list[str]]) -> list[Measured]:
    """Queries that become half as long again, told by the deciles of their length."""
    pool = np.array([len(one) for topic in USUAL for one in texts[topic]])
    edges = np.quantile(pool, np.linspace(0, 1, 11)[1:-1])

    def counted(values: NDArray[np.number]) -> NDArray[np.int64]:
        return np.bincount(np.searchsorted(edges, values), minlength=10)

    alarms, delays = 0, []
    for seed in range(NULL_STREAMS):
        rng = np.random.default_rng(seed)
        blocks = np.stack([counted(rng.choice(pool, BLOCK)) for _ in range(100)])
        still, moved = FeatureDrift(blocks), FeatureDrift(blocks)
        alarms += any(
            still.absorb(counted(rng.choice(pool, BLOCK))) for _ in range(NULL_QUERIES // BLOCK)
        )
        taken = 0
        while not moved.absorb(counted(rng.choice(pool, BLOCK) * 1.5)):
            taken += BLOCK
        delays.append(taken + BLOCK)
    return [
        Measured(
            name=f"length: runs with an alarm while nothing changes, {NULL_STREAMS} x "
            f"{NULL_QUERIES}",
            value=alarms,
            unit="runs",
            goal="<= 0",
            holds=alarms == 0,
        ),
        Measured(name="length: half as long again", value=median(delays), unit="queries"),
    ]


def main() -> None:
    questions, articles = trivia(), news()
    vectors, topics = embedded(questions), embedded(articles)
    pool = np.concatenate([vectors[topic] for topic in USUAL])
    usual = np.concatenate([rows for topic, rows in topics.items() if topic != NEW_TOPIC])
    rows = [quiet("trivia", pool), quiet("news", usual)]
    for name in NEW_LISTS:
        rows += [
            noticed(f"trivia, {name}", pool, vectors[name], part, goal)
            for part, goal in ((0.1, inf), (0.2, 250 if name == NEW_LISTS[0] else inf), (0.5, inf))
        ]
    rows.append(noticed("trivia, more music", pool, vectors["music"], 0.2, inf))
    for part, goal in ((0.1, inf), (0.2, 250), (0.5, inf)):
        rows.append(noticed(f"news, {NEW_TOPIC}", usual, topics[NEW_TOPIC], part, goal))
    write("drift", [*rows, *lengths(questions)], {"numpy": np.__version__})


if __name__ == "__main__":
    main()
