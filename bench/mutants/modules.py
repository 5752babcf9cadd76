"""Which modules are mutated, and by which of their own unit tests a mutant must be noticed."""

from __future__ import annotations

UNIT = "tests/unit"
_ROWS = (f"{UNIT}/agent/test_rehearsal.py", f"{UNIT}/agent/test_row_rehearsal.py")
_JUDGED = (f"{UNIT}/agent_judge/test_judge.py",)
_STEPPED = (
    f"{UNIT}/agent/test_changes.py",
    *(
        f"{UNIT}/agent/test_stepper{about}.py"
        for about in ("", "_people", "_bake", "_clocks", "_refused", "_crashes")
    ),
)

MODULES: dict[str, tuple[str, ...]] = {
    "gateway.routing": (
        f"{UNIT}/gateway/test_routing.py",
        f"{UNIT}/gateway/test_mirror_share.py",
        f"{UNIT}/gateway/test_plans.py",
    ),
    "gateway.exchange": (
        f"{UNIT}/gateway/test_exchange.py",
        f"{UNIT}/gateway/test_framing.py",
        f"{UNIT}/gateway/test_flow.py",
    ),
    "gateway.framing": (f"{UNIT}/gateway/test_framing.py", f"{UNIT}/gateway/test_fuzz.py"),
    "gateway.pool": (
        f"{UNIT}/gateway/test_pool.py",
        f"{UNIT}/gateway/test_outliers.py",
        f"{UNIT}/gateway/test_health.py",
        f"{UNIT}/gateway/test_flow.py",
    ),
    "gateway.spool.format": (
        f"{UNIT}/gateway_spool/test_format.py",
        f"{UNIT}/gateway_spool/test_reader.py",
    ),
    "agent.stepper": (*_STEPPED, f"{UNIT}/agent/test_gates.py"),
    "agent.changes": _STEPPED,
    "agent.row_log": _ROWS,
    "agent.row_rehearsal": _ROWS,
    "agent.judge.running": (f"{UNIT}/agent_judge/test_running.py",),
    "agent.judge.dispersion": (f"{UNIT}/agent_judge/test_dispersion.py",),
    "agent.judge.trace": (*_JUDGED, *_ROWS),
    "agent.judge.judge": (*_JUDGED, *_ROWS),
    "agent.judge.trust": (f"{UNIT}/agent_judge/test_trust.py", *_JUDGED),
    "agent.judge.verdict": (f"{UNIT}/agent_judge/test_verdict.py", *_JUDGED),
    "agent.judge.panel": _JUDGED,
    "agent.judge.rates": (f"{UNIT}/agent_judge/test_rates.py",),
    "agent.judge.scores": (f"{UNIT}/agent_judge/test_scores.py",),
    "agent.judge.quantiles": (f"{UNIT}/agent_judge/test_quantiles.py",),
    "agent.judge.margins": (f"{UNIT}/agent_judge/test_margins.py",),
    "agent.judge.tilt": (f"{UNIT}/agent_judge/test_tilt.py",),
    "agent.judge.intervals": (f"{UNIT}/agent_judge/test_intervals.py",),
    "agent.judge.eprocess": (
        f"{UNIT}/agent_judge/test_eprocess.py",
        f"{UNIT}/agent_judge/test_tilt.py",
    ),
}
"""`reconcile` is `agent.stepper` with the changes of state it uses, `agent.changes`."""
