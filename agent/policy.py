"""A release policy as typed values: what may move the weight, and with what chance of being wrong.

The file's words are Argo's. Parsing refuses unknown keys and misspelt values, naming file and key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf


@dataclass(frozen=True, slots=True)
class SetWeight:
    """`- setWeight: 25`"""

    share_bp: int


@dataclass(frozen=True, slots=True)
class Pause:
    """`- pause: {duration: 10m}`, a minimum; `- pause: {}` waits for a person's `promote`."""

    duration_s: float = inf


Step = SetWeight | Pause


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorsCheck:
    margin: float = 0.005
    """Absolute rise of the error rate that matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyCheck:
    quantiles: tuple[float, ...] = (0.5, 0.95, 0.99)
    margin: float = 0.10
    """Relative rise that matters: 0.10 is ten percent slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCheck:
    field: str = "relevance_score"
    """Name of the late score. Judged only where it means the same in both versions."""
    margin: float = 0.02
    """Absolute fall of the mean that matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What is judged. None: not judged. Sample ratio and completeness always are."""

    errors: ErrorsCheck | None = field(default_factory=ErrorsCheck)
    latency: LatencyCheck | None = field(default_factory=LatencyCheck)
    ttft: LatencyCheck | None = None
    """Time to the first byte of the answer."""
    score: ScoreCheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
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
    sample_ratio_tolerance: float = 2.0
    """Odds of the split seen over those asked, either way, before the evidence is INVALID.

    Sticky users are few and unequal: 200 of them at 5 % are 10 give or take 3, for good. 1.0 is for
    keys that are new with each request.
    """
    checks: Checks = field(default_factory=Checks)
