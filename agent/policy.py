"""A release policy as typed values: what may move the weight, and with what chance of being wrong.

The file's words are Argo's. Parsing refuses unknown keys and misspelt values, naming file and key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from agent.freeze import Window
from mlops.contracts.plan import MAX_CANARY_SHARE_BP


@dataclass(frozen=True, slots=True)
class SetWeight:
    """`- setWeight: 25`"""

    share_bp: int


@dataclass(frozen=True, slots=True)
class Pause:
    """`- pause: {duration: 10m}`, a minimum; `- pause: {}` waits for a person's `promote`."""

    duration_s: float = inf


@dataclass(frozen=True, slots=True)
class SetMirror:
    """`- setMirror: 20`: that much of stable's traffic is copied to the canary; no user sees it."""

    share_bp: int


Step = SetWeight | SetMirror | Pause


class Direction(StrEnum):
    """Which way a quantile must move to matter."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCheck:
    """A part of the requests that went wrong."""

    margin: float = 0.005
    """Absolute rise of the rate that matters. 0: every rise that is proved does."""
    tolerance: float = 1.2
    """Odds ratio that no two pods are nearer than: within it nothing is a regression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileCheck:
    """Quantiles of something that has no upper bound."""

    quantiles: tuple[float, ...] = (0.5, 0.95, 0.99)
    margin: float = 0.10
    """Relative change that matters: 0.10 is ten percent more."""
    direction: Direction = Direction.UP


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCheck:
    """The mean of a score in 0..1."""

    field: str = "relevance_score"
    """`relevance_score` of the rows, or the name of a late score."""
    margin: float = 0.02
    """Absolute fall of the mean that matters."""
    comparable: bool = True
    """Does it mean the same in both versions? A similarity from another embedding space does not; a
    click, a label or an evaluator's grade does. False: not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What is judged. None: not judged. Sample ratio and completeness always are."""

    errors: RateCheck | None = field(default_factory=RateCheck)
    """5xx, 429, timeouts, resets, truncated answers; of the first attempt."""
    client_errors: RateCheck | None = None
    """Other 4xx."""
    refusals: RateCheck | None = None
    """Answers in which the model declines, where that is known."""
    empty_retrievals: RateCheck | None = None
    """Answers that nothing was retrieved for, where that is known."""
    latency: QuantileCheck | None = field(default_factory=QuantileCheck)
    ttft: QuantileCheck | None = None
    """Time to the first byte of the answer."""
    first_event: QuantileCheck | None = None
    """Time to the first event of a stream."""
    gaps: QuantileCheck | None = None
    """Longest silence between two events of a stream."""
    answer_length: QuantileCheck | None = None
    """Characters of the answer."""
    tokens: QuantileCheck | None = None
    """Completion tokens."""
    score: ScoreCheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsCheck:
    """Two answers to one query, from a step that mirrors."""

    margin: float = 0.02
    """Part of the queries in which the canary may be worse, beyond those in which it is better."""
    latency: float = 0.25
    """Relative difference of two latencies that counts."""
    length: float = 0.5
    """Relative difference of two answers' lengths that counts."""
    score: float | None = None
    """Difference of two scores that counts; None: not compared, as between embedding spaces."""
    top: int = 10
    """Documents of each answer that are compared."""
    overlap: float | None = None
    """Least mean part of the top documents that both found; None: told, not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All that may move the weight of a release; times in seconds, shares in basis points."""

    steps: tuple[Step, ...] = (SetWeight(500), SetWeight(2500), SetWeight(5000))
    bake_s: float = 3600.0
    alpha: float = 0.05
    """Chance of ever rolling back a harmless canary."""
    beta: float = 0.05
    """Chance of ever promoting one worse than the margins."""
    lease_s: float = 30.0
    """Longest exposure that nobody watches."""
    grace_s: float = 60.0
    """Warm-up after the canary's first request: only the guard against catastrophe judges."""
    dwell_s: float = 60.0
    """Shortest stay at a weight."""
    holdback_share_bp: int = 500
    block_s: int = 5
    settle_s: int = 5
    """Not compared after a change of weight: at least one block, better the p99 of the route.

    Rows are dated by when they ended, so at first the arm that grew shows its fastest answers only.
    """
    sample_ratio_tolerance: float = 1.05
    """Odds of the split seen over those asked, either way, before the evidence is INVALID.

    That sticky users are few and unequal is measured from the log and allowed for on top.
    """
    checks: Checks = field(default_factory=Checks)
    pairs: PairsCheck = field(default_factory=PairsCheck)
    """What is compared of the two answers to one query, while a step mirrors."""
    max_share_bp: int = MAX_CANARY_SHARE_BP
    """Blast radius: no step may ask for more."""
    freeze: tuple[Window, ...] = ()
    """Nothing advances within; a rollback works."""
    gates: tuple[str, ...] = ()
    """Names of the agent's gates that each step must pass."""
    rolls_back: bool = True
    """False: REGRESSED holds and says so; only a person rolls back."""
    invalid_limit_s: float = 1800.0
    """Longest time on evidence that cannot be trusted, before the release ends without blame."""
