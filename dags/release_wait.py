"""Wait for a release without holding a worker: a deferrable operator and its trigger.

The trigger runs in the triggerer, which must find this module: the project's folder is on its
PYTHONPATH. It reads the agent's address, token and certificates from its environment, so that none
lies in Airflow's database.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from dags.agent_place import agent_place

DECIDED = ("baking", "settled", "rolled_back", "aborted")
"""Promoted or taken back."""
ENDED = ("settled", "rolled_back", "aborted")

POLL_S = 5.0
"""A step of a release takes tens of seconds at the least."""
CALL_TIMEOUT_S = 10.0
NO_SUCH_RELEASE = 404

log = logging.getLogger(__name__)


class ReleaseTrigger(BaseTrigger):
    """Fires once the release is in one of `phases`. An agent that is away is asked again."""

    def __init__(self, release_id: str, phases: Sequence[str], poll_s: float = POLL_S) -> None:
        super().__init__()
        self.release_id, self.phases, self.poll_s = release_id, tuple(phases), poll_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """As Airflow keeps it in its database: where it is found, and its arguments."""
        return "dags.release_wait.ReleaseTrigger", {
            "release_id": self.release_id,
            "phases": list(self.phases),
            "poll_s": self.poll_s,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, in the triggerer's loop: what the release came to, or why that is not known.

        Raises:
            OSError: a certificate's file cannot be used.
        """
        place = agent_place(os.environ)  # noqa: TID251  read here, kept nowhere
        path = f"{place.url}/v1/releases/{quote(self.release_id, safe='')}"
        async with httpx.AsyncClient(
            headers=place.headers, verify=place.verify, timeout=CALL_TIMEOUT_S
        ) as client:
            while True:
                found = await self._look(client, path)
                if found is not None:
                    yield TriggerEvent(found)
                    return
                await asyncio.sleep(self.poll_s)

    async def _look(self, client: httpx.AsyncClient, path: str) -> dict[str, Any] | None:
        """What to tell the task; None while there is nothing to tell."""
        try:
            answer = await client.get(path)
            if answer.status_code == NO_SUCH_RELEASE:
                return {"problem": f"the agent knows no release {self.release_id}"}
            status = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            log.warning("%s: %s; asked again in %g s", path, error, self.poll_s)
            return None
        log.info("release %s is %s: %s", self.release_id, status["phase"], status.get("sentence"))
        if status["phase"] not in self.phases:
            return None
        why = "; ".join(status["reasons"])
        return {
            "release_id": self.release_id,
            "phase": status["phase"],
            "reasons": list(status["reasons"]),
            "sentence": f"{status['version']} is {status['phase']}" + (f": {why}" if why else ""),
        }


class WaitForRelease(BaseOperator):
    """Done once the release has come to one of `phases`; what it came to is the task's result."""

    template_fields = ("release_id",)

    def __init__(
        self,
        *,
        release_id: Any,
        phases: Sequence[str],
        longest: timedelta = timedelta(days=7),
        poll_s: float = POLL_S,
        **arguments: Any,
    ) -> None:
        """`longest` bounds the wait: a policy may wait for a person. The release goes on then."""
        super().__init__(**arguments)
        self.release_id, self.phases, self.poll_s = release_id, tuple(phases), poll_s
        self.longest = longest

    def execute(self, context: Any) -> None:
        """Give the worker back; Airflow calls `reached` on one once the trigger has fired."""
        trigger = ReleaseTrigger(self.release_id, self.phases, self.poll_s)
        self.defer(trigger=trigger, method_name="reached", timeout=self.longest)

    def reached(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """The task's result.

        Raises:
            AirflowFailException: the agent knows no such release.
        """
        if "problem" in event:
            raise AirflowFailException(event["problem"])
        self.log.info("%s", event["sentence"])
        return event
