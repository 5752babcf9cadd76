"""Which alerts the console shows: Prometheus' own, else what the agent sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.console.alerts import Alert, PrometheusAlerts, alerts_of, own_alerts
from agent.judge import Judgement, Verdict
from agent.moments import iso
from agent.publisher import View
from agent.release import Cycle, Picture, Sight
from agent.settings import ALERT_GROUP, AlertSettings, SettingsError, load
from mlops.contracts.drift import DriftStatus
from mlops.contracts.plan import RoutePlan, Slot
from mlops.contracts.release import ReleaseStatus

NOW = 1_700_000_000.0
SLOT = Slot(version="1", endpoints=("http://127.0.0.1:9",))
PLAN = RoutePlan(route="rag", generation=2, salt="s", stable=SLOT, lease_s=30.0)
RULES = Path(__file__).resolve().parents[3] / "prometheus/rules/alerts.yml"


def status(**more: Any) -> ReleaseStatus:
    return ReleaseStatus(
        **{
            "id": "rel-1", "route": "rag", "version": "2", "stable": "1", "phase": "progressing",
            "weight": 5.0, "verdict": "undecided", "step": 1, "steps": 2, "generation": 2,
            "reason": "", "reasons": ("40 requests",), **more,
        }
    )  # fmt: skip


def cycle(verdict: Verdict = Verdict.UNDECIDED, age_s: float = 1.0) -> Cycle:
    judgement = Judgement(verdict=verdict, reasons=("few",), checks={})
    sight = Sight(gateway="http://g", plan=PLAN, lease_remaining_s=20.0)
    picture = Picture(now_s=NOW, sights=(sight,), judgement=judgement, closed_through_s=NOW - age_s)
    return Cycle(picture=picture, judgement=judgement, sentence="", canary_requests=0)


def view(lease_s: float = 20.0, *silent: Sight) -> View:
    sight = Sight(gateway="http://g", plan=PLAN, lease_remaining_s=lease_s)
    return View(routes={"rag": (sight,)}, silent=silent)


def seen(
    looked: View | None = None,
    release: ReleaseStatus | None = None,
    one: Cycle | None = None,
    drift: DriftStatus | None = None,
) -> list[tuple[str, str]]:
    alerts = own_alerts(
        looked or view(),
        [release] if release else [],
        {"rel-1": one} if one else {},
        {"rag": drift} if drift else {},
        NOW,
    )
    return [(alert.name, alert.summary) for alert in alerts]


def test_all_is_well() -> None:
    calm = DriftStatus(route="rag", version="1", state="watching", reference_since=iso(NOW))
    assert seen(view(), status(), cycle(), calm) == []
    assert list(own_alerts(None, [], {}, {}, NOW)) == []


@pytest.mark.parametrize(
    ("more", "name", "said"),
    [
        ({"looked": view(20.0, Sight(gateway="http://h", problem="x"))}, "GatewayDown", "http://h"),
        ({"looked": view(0.0)}, "LeaseEnded", "rag ended on http://g"),
        ({"release": status(), "one": cycle(age_s=40)}, "AgentWithoutEvidence", "for 40 s"),
        (
            {"release": status(verdict="invalid"), "one": cycle(Verdict.INVALID)},
            "EvidenceInvalid",
            "40 requests",
        ),
        (
            {
                "release": status(
                    phase="rolled_back", ended_at=iso(NOW - 60), reasons=("errors rose",)
                )
            },
            "ReleaseRolledBack",
            "2 on rag: errors rose",
        ),
        (
            {
                "drift": DriftStatus(
                    route="rag", version="1", state="drifted", reference_since=iso(NOW),
                    detected={"query_length": iso(NOW)},
                )
            },
            "QueryDrift",
            "query length",
        ),
    ],
)  # fmt: skip
def test_what_the_agent_sees_by_itself(more: dict[str, Any], name: str, said: str) -> None:
    ((found, summary),) = seen(**more)
    assert found == name
    assert said in summary
    assert f"alert: {name}\n" in RULES.read_text(encoding="utf-8"), "one word for one thing"


def test_what_ended_is_an_alert_for_an_hour_only_where_it_was_rolled_back() -> None:
    long_ago, just_now = iso(NOW - 3_601), iso(NOW - 1)
    assert seen(release=status(phase="rolled_back", ended_at=long_ago)) == []
    settled = status(phase="settled", ended_at=just_now, verdict="invalid")
    assert seen(release=settled, one=cycle(Verdict.INVALID, age_s=500)) == []


# ---- Prometheus' own -----------------------------------------------------------------------------


def answer(*groups: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"status": "success", "data": {"groups": groups}})


def group(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "file": "f", "interval": 15, "rules": rules}


LEASE: dict[str, Any] = {
    "name": "LeaseEnded", "type": "alerting", "health": "ok", "query": "x", "duration": 0,
    "alerts": [
        {
            "labels": {"alertname": "LeaseEnded", "severity": "critical", "route": "rag"},
            "annotations": {"summary": "over", "description": "d", "runbook_url": "docs/x.md"},
            "state": "firing", "activeAt": "2026-01-01T00:00:00Z", "value": "1e+00",
        }
    ],
}  # fmt: skip


def test_alerts_of_our_groups_are_taken_and_no_others() -> None:
    found, problem = alerts_of(
        answer(group("theirs", LEASE), group("ours", LEASE), group("ours", {"name": "Q"})), {"ours"}
    )
    assert problem == ""
    assert found == [
        Alert(
            name="LeaseEnded", severity="critical", state="firing", since="2026-01-01T00:00:00Z",
            summary="over", description="d", runbook="docs/x.md", route="rag",
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (answer(), "has no rules of ours"),
        (answer(group("ours", {"name": "a:b", "type": "recording"})), "has no rules of ours"),
        (answer(group("ours", {**LEASE, "health": "err"})), "cannot evaluate LeaseEnded"),
    ],
)
def test_a_prometheus_that_cannot_tell_is_no_good_news(content: bytes, said: str) -> None:
    assert said in alerts_of(content, {"ours"})[1]


async def test_who_does_not_answer_is_asked_again_only_after_a_while() -> None:
    now_s = 100.0
    settings = AlertSettings(prometheus="http://127.0.0.1:9", groups=frozenset({"ours"}))
    asked = PrometheusAlerts(settings, lambda: now_s)
    alerts, _, problem = await asked.look()
    assert alerts is None
    assert "did not answer" in problem
    asked._problem = "as before"
    assert (await asked.look())[2] == "as before"
    now_s += 10
    assert "did not answer" in (await asked.look())[2]


# ---- the file ------------------------------------------------------------------------------------


def read(tmp_path: Path, alerts: object) -> AlertSettings | None:
    path = tmp_path / "agent.yaml"
    document = {"gateways": [{"url": "http://127.0.0.1:8001"}], "alerts": alerts}
    path.write_bytes(msgspec.yaml.encode(document))
    return load(path, {"PROM": "secret"}).alerts


def test_the_file_says_where_prometheus_is(tmp_path: Path) -> None:
    found = read(tmp_path, {"prometheus": "http://127.0.0.1:9090/", "token": {"env": "PROM"}})
    assert found is not None
    assert (found.prometheus, found.groups) == ("http://127.0.0.1:9090", {ALERT_GROUP})
    assert (found.token, "secret" in repr(found)) == ("secret", False)
    assert read(tmp_path, None) is None
    assert f"name: {ALERT_GROUP}\n" in RULES.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        ({"prometheus": "127.0.0.1:9090"}, "alerts.prometheus: expected http"),
        ({"prometheus": "http://a", "group": "x"}, "group"),
        ({"prometheus": "http://a", "groups": []}, "alerts.groups"),
        ({"prometheus": "http://a", "token": {"env": "NONE"}}, "NONE"),
        ({}, "prometheus"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path: Path, alerts: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read(tmp_path, alerts)


@pytest.mark.parametrize(
    "address",
    [
        "http://a?x=1",
        "http://a#x",
        "http://a:99999",
        "http://a:0",
        "http://[::1",
        "http://:" + "p" * 9 + "@a",
    ],
)
def test_an_address_is_that_of_a_server(tmp_path: Path, address: str) -> None:
    with pytest.raises(SettingsError, match="expected http://HOST:PORT") as refused:
        read(tmp_path, {"prometheus": address})
    assert "ppp" not in str(refused.value)
