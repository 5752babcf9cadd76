"""The hour's findings reach a webhook: once, signed, and again only where it did not take them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from standardwebhooks import Webhook

from dags.monitoring_steps import NotTold, send_alerts
from dags.step_results import Refused
from mlops.config import MlopsConfig, read_config
from mlops.deployment.notices import ATTEMPTS
from mlops.monitoring.findings import Finding, Severity
from mlops.monitoring.hour_partition import HourPartition
from tests.answering import answering

HOUR = datetime(2026, 1, 31, 5, tzinfo=UTC)
SECRET = "whsec_" + "c2VjcmV0IG9mIGEgdGVzdA=="
DECAY = Finding(
    look="anomalies",
    name="relevance_score",
    route="rag",
    severity=Severity.WARNING,
    sentence="rag: relevance_score 0.5, of 24 hours before 0.8",
    retrain=True,
)


@dataclass
class Hook:
    """Somebody who is told; answers with `status`."""

    url: str
    status: int = 204
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        found.taken.append(({name.lower(): one for name, one in request.headers.items()}, body))
        request.send_response(found.status)
        request.end_headers()

    with answering(answer) as address:
        found = Hook(f"http://{address}/hook")
        yield found


def configured(folder: Path, url: str) -> MlopsConfig:
    settings = {"MLOPS_RETRAINING_DATA_PATH": str(folder), "MLOPS_NOTICE_URL": url}
    return read_config(settings | {"MLOPS_NOTICE_SECRET": SECRET}, folder)


def found_in_the_hour(folder: Path, *findings: Finding) -> None:
    HourPartition(folder, int(HOUR.timestamp())).write("alerts", list(findings))


def asked(**changed: object) -> bytes:
    return msgspec.json.encode({"hour": HOUR, **changed})


def test_findings_are_told_once_and_signed(hook: Hook, tmp_path: Path) -> None:
    found_in_the_hour(tmp_path, DECAY)
    config = configured(tmp_path, hook.url)
    told = send_alerts(config, asked())
    assert send_alerts(config, asked()) == told  # a task that is cleared and run again
    ((headers, body),) = hook.taken
    Webhook(SECRET).verify(body, headers)
    message = msgspec.json.decode(body)
    assert message["type"] == "monitoring.alerts"
    assert message["data"]["partition"] == "2026-01-31T0500Z"
    assert [one["sentence"] for one in message["data"]["findings"]] == [DECAY.sentence]


def test_another_finding_of_the_hour_is_told_too(hook: Hook, tmp_path: Path) -> None:
    config = configured(tmp_path, hook.url)
    for findings in ((DECAY,), (DECAY, msgspec.structs.replace(DECAY, name="thumbs"))):
        found_in_the_hour(tmp_path, *findings)
        send_alerts(config, asked())
    assert [msgspec.json.decode(body)["data"]["count"] for _, body in hook.taken] == [1, 2]
    assert len({headers["webhook-id"] for headers, _ in hook.taken}) == 2


def test_a_webhook_that_is_away_fails_the_task_and_is_told_by_its_retry(
    hook: Hook, tmp_path: Path
) -> None:
    found_in_the_hour(tmp_path, DECAY)
    config = configured(tmp_path, hook.url)
    hook.status = 503
    with pytest.raises(NotTold, match="it answered 503") as problem:
        send_alerts(config, asked())
    assert hook.url not in str(problem.value), "the address may be a secret"
    hook.status = 204
    send_alerts(config, asked())
    assert len(hook.taken) == ATTEMPTS + 1
    assert len({headers["webhook-id"] for headers, _ in hook.taken}) == 1


def test_nothing_is_told_where_there_is_nothing_nobody_or_no_hurry(
    hook: Hook, tmp_path: Path
) -> None:
    found_in_the_hour(tmp_path)
    with pytest.raises(Refused, match="no findings"):
        send_alerts(configured(tmp_path, hook.url), asked())
    found_in_the_hour(tmp_path, DECAY)
    with pytest.raises(Refused, match="MLOPS_NOTICE_URL is not set"):
        send_alerts(configured(tmp_path, ""), asked())
    with pytest.raises(Refused, match="filled in later"):
        send_alerts(configured(tmp_path, hook.url), asked(is_backfill=True))
    assert hook.taken == []
