"""Outcomes by status and by failure; the budget of retries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outcome import (
    ERRORS,
    OUTCOME_OF_STATUS,
    RETRY_FLOOR,
    RETRY_WINDOW_S,
    Failure,
    RetryBudget,
)
from gateway.record import OUTCOMES
from mlops.contracts.record import ERROR_OUTCOMES, Outcome, outcome_of_status


@pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 429, 499, 500, 503, 599])
def test_the_table_says_what_the_contract_says(status):
    assert OUTCOMES[OUTCOME_OF_STATUS[status]] == outcome_of_status(status)


def test_every_outcome_has_a_number():
    assert set(OUTCOMES) == set(Outcome)
    assert {OUTCOMES[index] for index in ERRORS} == {each.value for each in ERROR_OUTCOMES}


@pytest.mark.parametrize("failure", Failure)
def test_every_failure_is_charged_and_answered_with_a_gateway_status(failure):
    assert failure.outcome in ERRORS
    assert failure.status in (502, 503, 504)
    assert failure.was_sent == (failure.retry_on != "connect")


@given(
    percent=st.floats(0, 100),
    steps=st.lists(st.integers(0, 50), min_size=1, max_size=60),
)
def test_retries_stay_under_their_share_of_recent_requests(percent, steps):
    requests, spent = 1000, 0
    budget = RetryBudget(percent, requests=requests)
    assert budget.spend(requests) == (percent > 0)
    spent += percent > 0
    total = 0
    for step in steps:
        total += step
        spent += budget.spend(requests + total)
    assert spent <= RETRY_FLOOR + total * percent / 100 + 1


def test_what_was_spent_is_forgotten_after_the_window():
    budget = RetryBudget(0.001)
    assert [budget.spend(0) for _ in range(RETRY_FLOOR + 2)].count(True) == RETRY_FLOOR
    for _ in range(RETRY_WINDOW_S - 1):
        budget.second_passed(0)
        assert not budget.spend(0)
    budget.second_passed(0)
    assert budget.spend(0)


def test_requests_before_a_failure_have_earned_its_retries_and_old_ones_no_more():
    budget = RetryBudget(20)
    assert [budget.spend(200) for _ in range(100)].count(True) == RETRY_FLOOR + 40
    for _ in range(RETRY_WINDOW_S):
        budget.second_passed(200)
    assert [budget.spend(200) for _ in range(100)].count(True) == RETRY_FLOOR


def test_no_budget_means_no_retry():
    assert not RetryBudget(0).spend(1_000_000)
