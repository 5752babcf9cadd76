"""The agent's metrics, named after Flagger's and Argo Rollouts' where those exist."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agent.judge import Judgement, Verdict
from agent.release import GateAnswer, Phase, Release, candidate_share_bp
from mlops.contracts.drift import DriftFeature
from mlops.service.version import program_version

CYCLE_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_STATUS = {Phase.PROGRESSING: 0, Phase.BAKING: 0, Phase.SETTLED: 1}
"""As flagger_canary_status: 0 running, 1 successful, 2 failed."""

_ENDED_AS = {Phase.SETTLED: "Promoted", Phase.ROLLED_BACK: "RolledBack", Phase.ABORTED: "Aborted"}
"""As the `status` label of Argo's rollout_duration_seconds."""


class Metrics:
    """Labels are routes and names of checks, so their number is bounded by the configuration."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._leader = Gauge("agent_leader", "1 while this agent acts.", registry=self.registry)
        self._status = Gauge(
            "agent_release_status",
            "Newest release of the route: 0 running, 1 successful, 2 failed.",
            ["route"],
            registry=self.registry,
        )
        self._phase = Gauge(
            "agent_release_phase",
            "1 for the phase that the route's newest release is in.",
            ["route", "phase"],
            registry=self.registry,
        )
        self._weight = Gauge(
            "agent_release_weight",
            "Percent asked for the release's version.",
            ["route"],
            registry=self.registry,
        )
        self._duration = Gauge(
            "agent_release_duration_seconds",
            "Since the newest release began, until it ended.",
            ["route"],
            registry=self.registry,
        )
        self.ended = Counter(
            "agent_releases",
            "Releases that ended, by how.",
            ["route", "status"],
            registry=self.registry,
        )
        self.events = Counter(
            "agent_release_events",
            "Entries of the journal, by kind (as Argo's rollout_events_total).",
            ["route", "kind"],
            registry=self.registry,
        )
        self._verdict = Gauge(
            "agent_release_verdict",
            "1 for the verdict on the route's release.",
            ["route", "verdict"],
            registry=self.registry,
        )
        self._analysis = Gauge(
            "agent_release_metric_analysis",
            "Evidence for a regression (e-value), by check.",
            ["route", "metric"],
            registry=self.registry,
        )
        self._of_the_agent_itself()
        self._of_routes()

    def _of_the_agent_itself(self) -> None:
        Gauge(
            "agent_build_info", "Which version of the program this is.", ["version"],
            registry=self.registry,
        ).labels(program_version()).set(1)  # fmt: skip
        self.tasks = Gauge("agent_tasks", "Of the event loop, not ended.", registry=self.registry)
        self.evidence_age_s = Gauge(
            "agent_evidence_age_seconds",
            "How far the complete log is behind.",
            ["route"],
            registry=self.registry,
        )
        self.cycle_s = Histogram(
            "agent_cycle_seconds",
            "Wall time of one cycle.",
            buckets=CYCLE_BUCKETS_S,
            registry=self.registry,
        )
        self.failures = Counter(
            "agent_cycle_failures",
            "Cycles of a release that failed, by what.",
            ["cause"],
            registry=self.registry,
        )
        self.evaluations = Counter(
            "agent_evaluations", "Late scores, by what became of them.", ["result"],
            registry=self.registry,
        )  # fmt: skip
        self.notices = Counter(
            "agent_notices", "Notices, by what became of an attempt.", ["target", "result"],
            registry=self.registry,
        )  # fmt: skip
        self.notices_waiting = Gauge(
            "agent_notices_waiting", "Notices that are not delivered yet.", registry=self.registry
        )
        self.unstored_events = Gauge(
            "agent_events_waiting", "Events that ClickHouse lacks.", registry=self.registry
        )

    def _of_routes(self) -> None:
        self._gate = Gauge(
            "agent_release_gate",
            "1 where the gate says yes to the next step, 0 where it does not.",
            ["route", "gate"],
            registry=self.registry,
        )
        self._drift = Gauge(
            "agent_drift_evidence_ratio",
            "Evidence that the route's queries have changed, of what an alarm needs.",
            ["route", "feature"],
            registry=self.registry,
        )
        self._drift_detected = Gauge(
            "agent_drift_detected",
            "1 from an alarm until it is acknowledged, or a version is promoted.",
            ["route", "feature"],
            registry=self.registry,
        )
        self._drift_measure = Gauge(
            "agent_drift_measure",
            "Distance of recent queries from the reference: psi, ks, wasserstein, distance.",
            ["route", "feature", "measure"],
            registry=self.registry,
        )

    def show_leads(self, *, leads: bool) -> None:
        """Only the agent that leads says how routes stand: what another one saw last is no more so,
        and would set off alerts beside the leader's word."""
        self._leader.set(leads)
        if leads:
            return
        for gauge in (
            self._status, self._phase, self._weight, self._duration, self._verdict, self._analysis,
            self._gate, self._drift, self._drift_detected, self._drift_measure, self.evidence_age_s,
        ):  # fmt: skip
            gauge.clear()

    def show(self, release: Release, judgement: Judgement | None, now_s: float) -> None:
        """Set everything of one release; `judgement` is its last one.

        The verdict on a release that ended stays until the next one begins.
        """
        route = release.route
        self._status.labels(route).set(_STATUS.get(release.phase, 2))
        for phase in Phase:
            self._phase.labels(route, phase.value).set(phase is release.phase)
        self._weight.labels(route).set(candidate_share_bp(release, release.plan) / 100)
        ended_s = release.ended_at_s if release.ended_at_s is not None else now_s
        self._duration.labels(route).set(max(0.0, ended_s - release.started_at_s))
        if judgement is not None or not release.phase.is_ended:
            said = judgement.verdict if judgement is not None else None
            for verdict in Verdict:
                self._verdict.labels(route, verdict.value).set(verdict is said)
        if judgement is not None:
            for name, check in judgement.checks.items():
                if check.e_value is not None:
                    self._analysis.labels(route, name).set(check.e_value)

    def show_gates(self, route: str, gates: Mapping[str, GateAnswer | None]) -> None:
        """What the gates last said of the next step; one that was not asked keeps what it had."""
        for name, answer in gates.items():
            if answer is not None:
                self._gate.labels(route, name).set(answer.passed)

    def show_drift(
        self, route: str, features: Mapping[str, DriftFeature], detected: Collection[str]
    ) -> None:
        """`detected` are the features whose alarm stands."""
        for name, feature in features.items():
            self._drift.labels(route, name).set(feature.evidence)
            for measure, value in feature.measures.items():
                self._drift_measure.labels(route, name, measure).set(value)
        for name in {*features, *detected}:
            self._drift_detected.labels(route, name).set(name in detected)

    def count_ended(self, release: Release) -> None:
        """Once for each release, when its phase has changed."""
        if release.phase.is_ended:
            self.ended.labels(release.route, _ENDED_AS[release.phase]).inc()

    def render(self) -> bytes:
        """Everything, as Prometheus' text."""
        return generate_latest(self.registry)
