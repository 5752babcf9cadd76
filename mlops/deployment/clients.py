"""Clients of the servers that the settings name, each with its token and whom it trusts."""

from __future__ import annotations

from mlops.config import PlacesSettings
from mlops.deployment.agent_client import AgentClient
from mlops.deployment.gateway_client import GatewayClient
from mlops.deployment.http import DEFAULT_TIMEOUT_S
from mlops.deployment.server_client import ServerClient
from mlops.service.tls import Trust


def gateway_client(places: PlacesSettings, url: str, *, actor: str) -> GatewayClient:
    """Of the gateway whose admin API is at `url`; `actor` is who does it."""
    return GatewayClient(url, places.gateway_token, actor=actor, trust=Trust(places.tls))


def agent_client(
    places: PlacesSettings, *, actor: str, timeout_s: float = DEFAULT_TIMEOUT_S
) -> AgentClient:
    """Of the agent; a call takes `timeout_s` at the most."""
    return AgentClient(
        places.agent_url,
        places.agent_token,
        actor=actor,
        trust=Trust(places.tls),
        timeout_s=timeout_s,
    )


def server_client(
    places: PlacesSettings, url: str, *, actor: str, timeout_s: float = DEFAULT_TIMEOUT_S
) -> ServerClient:
    """Of a managed model server; a call takes `timeout_s` at the most."""
    return ServerClient(
        url, places.server_token, actor=actor, trust=Trust(places.tls), timeout_s=timeout_s
    )
