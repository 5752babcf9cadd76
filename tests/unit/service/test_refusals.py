"""What a handler raises becomes a `Problem`."""

from __future__ import annotations

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from mlops.contracts.api import Problem
from mlops.service.http import refusing


class Known(ValueError):
    """Told by its own status."""


class KnownMoreExactly(Known):
    """Derived from it, and not named."""


class Newer(Known):
    """Derived from it, and named."""

    live_generation = 7


async def refused(raised: Exception) -> tuple[int, Problem]:
    async def handler(_: web.Request) -> web.StreamResponse:
        raise raised

    refuse = refusing({Known: (404, "known"), Newer: (409, "newer")}, max_body_bytes=10)
    answer = await refuse(make_mocked_request("GET", "/"), handler)
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    return answer.status, msgspec.json.decode(answer.body, type=Problem)


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (Known("this"), 404, "known"),
        (KnownMoreExactly("this"), 404, "known"),
        (Newer("this"), 409, "newer"),
        (ValueError("this"), 400, "bad_request"),
        (web.HTTPMethodNotAllowed("GET", ["PUT"]), 405, "method_not_allowed"),
    ],
)
async def test_each_kind_has_its_status(raised: Exception, status: int, code: str) -> None:
    found, problem = await refused(raised)
    assert (found, problem.code) == (status, code)


async def test_a_plan_that_is_too_old_is_told_which_one_lives() -> None:
    _, problem = await refused(Newer("this"))
    assert problem.live_generation == 7


async def test_our_own_failures_tell_nothing() -> None:
    status, problem = await refused(KeyError("secret"))
    assert (status, problem.code) == (500, "internal")
    assert "secret" not in problem.error
