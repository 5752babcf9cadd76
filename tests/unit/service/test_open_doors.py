"""Without tokens: what other people's web pages could ask for in a browser on this machine."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from mlops.service.http import Forbidden, check_open


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8002", "[::1]:8002", "10.1.2.3", "localhost:8002", "LOCALHOST", "agent:8002",
        "console.localhost:8002", "",
    ],
)  # fmt: skip
def test_what_is_local_is_answered(host: str) -> None:
    for method in ("GET", "POST"):
        check_open(make_mocked_request(method, "/", headers={"Host": host}), changes=True)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8002", "127.0.0.1.evil.example", "localhost.evil.example"],
)
def test_a_name_that_somebody_else_may_hold_is_not(host: str) -> None:
    for changes in (False, True):
        with pytest.raises(Forbidden, match=r"evil\.example"):
            check_open(make_mocked_request("GET", "/", headers={"Host": host}), changes=changes)


def test_a_page_may_read_its_own_server_and_change_nothing() -> None:
    headers = {"Host": "localhost:8002", "Origin": "http://localhost:8002"}
    check_open(make_mocked_request("GET", "/", headers=headers), changes=False)
    with pytest.raises(Forbidden, match="no tokens"):
        check_open(make_mocked_request("PUT", "/", headers=headers), changes=True)
