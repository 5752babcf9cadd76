"""What a handler raises becomes a `Problem`."""

from __future__ import annotations

import inspect
import logging
import re
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from agent import api
from gateway import admin
from mlops.contracts.api import Problem
from mlops.service.http import _CODES, auditing, refusing


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


async def test_nobody_writes_lines_of_their_own_into_the_audit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="audit")

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=401)

    forged = "/v1/x%0APUT%20/v1/routes/rag/weights%20by%20admin%20alice%20from%2010.0.0.1:%20200"
    await auditing(make_mocked_request("POST", forged), handler)

    (line,) = caplog.messages
    assert line == f"POST {forged} by nobody from None: 401"


def test_every_code_is_in_the_contract() -> None:
    """Clients tell refusals apart by it, so one that is not written down cannot be relied on."""
    http = Path(inspect.getfile(refusing)).read_text(encoding="utf-8")
    made = {code for _, code in (*admin._PROBLEM_OF.values(), *api._PROBLEM_OF.values())}
    made |= {*_CODES.values(), *re.findall(r"refusal\(\s*\d+,\s*\"(\w+)\"", http)}
    written = Path(inspect.getfile(Problem)).read_text(encoding="utf-8").partition("    code: str")
    assert made == set(re.findall(r"`([a-z_]+)`", written[2]))
