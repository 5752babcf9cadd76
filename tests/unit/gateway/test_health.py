"""What checks in a row mean."""

from __future__ import annotations

import pytest

from gateway.deadlines import NEVER
from gateway.health import Health, problem_of_status
from gateway.pool import Endpoint
from gateway.upstream_settings import HealthCheckSettings, UpstreamSettings

SETTINGS = HealthCheckSettings(
    path="/healthz", healthy=2, unhealthy=3, expect=((200, 299), (404, 404))
)


def test_it_takes_checks_in_a_row_to_change_the_verdict_either_way():
    health = Health(SETTINGS)
    verdicts = []
    for passed in (0, 0, 1, 0, 0, 0, 1, 0, 1, 1, 0):
        health.checked("" if passed else "no answer")
        verdicts.append(int(health.healthy))
    assert verdicts == [1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1]
    assert health.problem == ""


def test_the_problem_is_that_of_the_last_check_that_failed():
    health = Health(SETTINGS)
    changes = [health.checked(problem) for problem in ("a", "b", "c", "d")]
    assert (changes, health.problem) == ([False, False, True, False], "d")


@pytest.mark.parametrize(("status", "passes"), [(200, 1), (299, 1), (404, 1), (300, 0), (503, 0)])
def test_the_statuses_expected_pass(status, passes):
    problem = problem_of_status(status, SETTINGS)
    assert problem == ("" if passes else f"/healthz answered {status}, expected 200-299, 404")


def test_an_endpoint_whose_checks_fail_is_out_for_as_long_as_they_do():
    endpoint = Endpoint("http://h:1", UpstreamSettings(health_check=SETTINGS))
    changes = [endpoint.checked("no answer") for _ in range(3)]
    assert changes == [False, False, True]
    assert endpoint.down_until_ns == NEVER
    assert endpoint.problem(0) == "health check: no answer"
    endpoint.dial_begun()
    endpoint.dial_failed("refused", 0)
    assert endpoint.down_until_ns == NEVER
    assert [endpoint.checked("") for _ in range(2)] == [False, True]
    assert endpoint.down_until_ns == 0
