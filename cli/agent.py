"""Ask the agent: one call of its API, failures told in a sentence."""

from __future__ import annotations

import sys
from typing import Any

import aiohttp
import click

from cli.connect import Connection
from cli.exits import EXIT_NO_ANSWER
from mlops.service.tls import Trust

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=10)


async def call(
    where: Connection, method: str, path: str, body: object | None = None
) -> Any:  # JSON as it came; the commands below only print it
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
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            click.echo(f"Error: agent at {where.agent} did not answer: {error}", err=True)
            sys.exit(EXIT_NO_ANSWER)
    if answer.status >= 400:
        raise click.ClickException(f"{content.get('error', content)}")
    return content
