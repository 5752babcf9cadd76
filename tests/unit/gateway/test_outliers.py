"""When an endpoint is ejected, for how long, and how many at a time."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outliers import History, may_eject, note_failure
from gateway.pool import DIALING, Endpoint, pick
from gateway.upstream_settings import OutlierSettings, UpstreamSettings

S = 1_000_000_000
SETTINGS = OutlierSettings(
    consecutive_failures=3, interval_s=10, base_ejection_s=30, max_ejection_s=100
)


def endpoints(count, settings=SETTINGS):
    upstream = UpstreamSettings(outlier_detection=settings)
    return [Endpoint(f"http://h:{number + 1}", upstream) for number in range(count)]


def test_failures_in_a_row_eject_and_one_success_between_them_does_not():
    history = History(SETTINGS)
    assert [history.failed(0), history.failed(0)] == ["", ""]
    history.succeeded(0)
    assert [history.failed(0), history.failed(0)] == ["", ""]
    assert history.failed(0) == "3 failures in a row"


def test_why_an_endpoint_is_out_is_said_also_after_a_connection_was_refused_and_opened():
    (endpoint,) = endpoints(1)
    endpoint.eject(30 * S, "3 failures in a row")
    endpoint.dial_begun()
    endpoint.dial_failed("connection refused", 0)
    assert endpoint.problem(0) == "ejected for 30.0 s more: 3 failures in a row"
    endpoint.dial_begun()
    assert endpoint.dialled(SimpleNamespace(pool_state=DIALING))
    assert endpoint.problem(0) == "ejected for 30.0 s more: 3 failures in a row"
    assert endpoint.problem(31 * S) == ""


def test_a_percentage_counts_only_with_enough_requests_in_one_interval():
    settings = OutlierSettings(
        consecutive_failures=0, failure_percentage=50, minimum_requests=10, interval_s=10
    )
    history = History(settings)
    for _ in range(5):
        history.succeeded(0)
    assert [history.failed(0) for _ in range(4)] == [""] * 4
    assert history.failed(0) == "50 % of 10 requests failed"
    assert [history.failed(10 * S) for _ in range(9)] == [""] * 9
    assert history.failed(10 * S) == "100 % of 10 requests failed"


def test_each_ejection_lasts_twice_as_long_up_to_the_most_and_good_intervals_undo_that():
    history = History(SETTINGS)
    now_ns, lasted = 0, []
    for _ in range(4):
        until_ns = history.eject(now_ns)
        lasted.append((until_ns - now_ns) // S)
        now_ns = until_ns
    assert lasted == [30, 60, 100, 100]
    history.succeeded(now_ns + 10 * S)
    history.succeeded(now_ns + 20 * S)
    history.succeeded(now_ns + 30 * S)
    assert (history.eject(now_ns + 30 * S) - now_ns - 30 * S) // S == 60
    assert (history.eject(now_ns + 10_000 * S) - now_ns - 10_000 * S) // S == 100


@pytest.mark.parametrize(
    ("count", "percent", "most"), [(1, 50, 1), (3, 50, 1), (4, 50, 2), (4, 0, 1)]
)
def test_no_more_endpoints_are_out_at_a_time_than_the_share_allows(count, percent, most):
    peers = endpoints(count, replace(SETTINGS, max_ejection_percent=percent))
    for endpoint in peers:
        for _ in range(6):
            note_failure(endpoint, peers, 0)
    assert sum(each.ejected_until_ns > 0 for each in peers) == most
    assert not may_eject(peers, percent, 0)
    assert may_eject(peers, percent, 31 * S)


def test_an_ejected_endpoint_gets_nothing_says_why_and_comes_back():
    bad, good = endpoints(2)
    for _ in range(3):
        note_failure(bad, [bad, good], 0)
    assert {pick([bad, good], bits, S, even_if_down=True) for bits in range(8)} == {good}
    assert bad.problem(S) == "ejected for 29.0 s more: 3 failures in a row"
    assert bad.ejections == 1
    assert {pick([bad, good], bits, 30 * S, even_if_down=True) for bits in range(8)} == {bad, good}
    assert (bad.problem(30 * S), bad.problem(31 * S)) == ("", "")


def test_where_all_are_out_stable_asks_them_all_the_same_and_a_canary_asks_none():
    (only,) = endpoints(1)
    for _ in range(3):
        note_failure(only, [only], 0)
    assert pick([only], 0, S, even_if_down=True) is only
    assert pick([only], 0, S, even_if_down=False) is None


def test_failures_of_an_endpoint_that_is_out_do_not_make_it_stay_longer():
    (only,) = endpoints(1)
    for _ in range(30):
        note_failure(only, [only], 0)
    assert (only.ejected_until_ns, only.ejections) == (30 * S, 1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5 * S)), max_size=200))
def test_whatever_happens_an_ejection_is_bounded_and_needs_failures(events):
    (only,) = endpoints(1)
    now_ns = in_a_row = 0
    for fails, later_ns in events:
        now_ns += later_ns
        before = only.ejections
        if fails:
            in_a_row += 1
            note_failure(only, [only], now_ns)
        else:
            in_a_row = 0
            only.history.succeeded(now_ns)
        assert only.ejections == before or in_a_row >= 3
        assert only.ejected_until_ns <= now_ns + 100 * S
