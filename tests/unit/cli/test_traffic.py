"""What `weights` and `rollback` print."""

from __future__ import annotations

import json

import pytest

from cli.traffic import Answer, report
from mlops.contracts.api import RouteStatus
from mlops.contracts.plan import RoutePlan, Slot


def slot(version: str) -> Slot:
    key = {"authorization": f"Bearer s3cret-{version}"}
    return Slot(version=version, endpoints=("http://127.0.0.1:8011",), headers=key)


STATUS = RouteStatus(
    plan=RoutePlan(
        route="rag",
        generation=7,
        salt="rag",
        stable=slot("2"),
        canary=slot("3"),
        canary_share_bp=1000,
        previous=slot("1"),
    ),
    share_bp=1000,
)


@pytest.mark.parametrize("output", ["json", "text"])
def test_no_output_shows_the_value_of_a_header(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        report([Answer("http://127.0.0.1:8001", STATUS)], output)
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert "s3cret" not in printed.out + printed.err
    if output == "json":
        (answer,) = json.loads(printed.out)
        plan = answer["status"]["plan"]
        for name, version in (("stable", "2"), ("canary", "3"), ("previous", "1")):
            assert plan[name]["version"] == version
            assert plan[name]["headers"] == {"authorization": "(hidden)"}


def test_one_gateway_that_did_not_confirm_is_printed_and_is_a_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = [
        Answer("http://127.0.0.1:8001", STATUS),
        Answer("http://127.0.0.1:9", None, "no answer within 3 s"),
    ]
    with pytest.raises(SystemExit) as ended:
        report(answers, "json")
    assert ended.value.code == 1
    assert json.loads(capsys.readouterr().out)[1] == {
        "gateway": "http://127.0.0.1:9",
        "error": "no answer within 3 s",
    }
