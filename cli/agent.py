"""Ask the agent: one call of its API, failures told in a sentence."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import click

from cli.connect import Connection
from cli.exits import EXIT_FAILED, EXIT_NO_ANSWER
from cli.refusals import AGENT_TOKEN, Problem, token_hint
from mlops.deployment.http import reason_of
from mlops.service.tls import Trust, UnusableFiles

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=10)
_ID: Final = re.compile(r"rel-[0-9a-f]+")
"""As the agent makes the ids of releases; a route may begin so, too."""


async def call(
    where: Connection, method: str, path: str, body: object | None = None
) -> Any:  # JSON as it came; the commands below only print it
    """Raises Problem: the agent is away (exit code 4), or refused; a file of `where.tls` is bad."""
    headers = {"x-actor": where.user}
    if where.agent_token:
        headers["Authorization"] = f"Bearer {where.agent_token}"
    trust = Trust(where.tls)
    async with aiohttp.ClientSession(timeout=REQUEST_TIMEOUT, headers=headers) as session:
        try:
            async with session.request(
                method,
                f"{where.agent}{path}",
                json=body,
                ssl=trust.context(),
                server_hostname=trust.server_name,
            ) as answer:
                content = await answer.json(content_type=None)
        except UnusableFiles as error:
            raise Problem(str(error), EXIT_FAILED) from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Problem(
                f"agent at {where.agent} did not answer: {reason_of(error)}\n"
                "MLOPS_AGENT_URL or --context says where it is; without it, `rag-mlops rollback` "
                "and `weights` ask the gateways",
                EXIT_NO_ANSWER,
            ) from error
    if answer.status >= 400:
        problem = content.get("error", content) if isinstance(content, dict) else content
        raise Problem(f"{problem}{token_hint(answer.status, AGENT_TOKEN)}", EXIT_FAILED)
    return content


async def release_id(where: Connection, given: str) -> str:
    """The id that was given, or that of the newest release of the route of that name."""
    if _ID.fullmatch(given):
        return given
    found = await call(where, "GET", "/v1/releases")
    for one in found:
        if given in (one["id"], one["route"]):
            return str(one["id"])
    routes = ", ".join(sorted({one["route"] for one in found})) or "none"
    raise click.ClickException(f"no release {given!r}; routes that had a release: {routes}")


def path_of(release: str) -> str:
    """Of a release in the API."""
    return f"/v1/releases/{quote(release, safe='')}"
