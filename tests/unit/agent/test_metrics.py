"""What Prometheus is told of releases, and by whom."""

from __future__ import annotations

from msgspec.structs import replace

from agent.judge import Judgement, Verdict
from agent.metrics import Metrics
from agent.release import Phase, Release
from mlops.contracts.drift import DriftFeature
from mlops.contracts.plan import Slot

RELEASE = Release(
    id="rel-1", route="rag", candidate=Slot(version="2", endpoints=("http://127.0.0.1:1",)),
    policy={}, reason="", started_by="ann", started_at_s=1_000.0,
)  # fmt: skip


def judged(verdict: Verdict) -> Judgement:
    return Judgement(verdict=verdict, reasons=(), checks={}, e_value=1.0)


def verdicts(metrics: Metrics) -> dict[str, float]:
    found = {
        verdict.value: metrics.registry.get_sample_value(
            "agent_release_verdict", {"route": "rag", "verdict": verdict.value}
        )
        for verdict in Verdict
    }
    return {name: value for name, value in found.items() if value is not None}


def test_a_verdict_stays_when_its_release_ends_and_not_when_the_next_begins() -> None:
    metrics = Metrics()
    metrics.show(RELEASE, judged(Verdict.INVALID), 1_010.0)
    ended = replace(RELEASE, phase=Phase.ABORTED, ended_at_s=1_020.0)
    metrics.show(ended, None, 1_030.0)
    assert verdicts(metrics)["invalid"] == 1
    metrics.show(replace(RELEASE, id="rel-2"), None, 1_040.0)
    assert set(verdicts(metrics).values()) == {0}


def test_only_who_leads_says_how_releases_stand() -> None:
    metrics = Metrics()
    metrics.show_leads(leads=True)
    metrics.show(RELEASE, judged(Verdict.INVALID), 1_010.0)
    metrics.show_drift("rag", {"embedding": DriftFeature(evidence=0.5)}, {"embedding"})
    metrics.evidence_age_s.labels("rag").set(30)
    metrics.events.labels("rag", "release.step").inc()
    metrics.show_leads(leads=False)
    text = metrics.render().decode()
    of_rag = {line.partition("{")[0] for line in text.splitlines() if 'route="rag"' in line}
    assert of_rag == {"agent_release_events_total", "agent_release_events_created"}
    assert metrics.registry.get_sample_value("agent_leader") == 0
