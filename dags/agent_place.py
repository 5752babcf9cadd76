"""Where the agent is and how it is spoken to, from the triggerer's environment.

As `mlops.config` reads the same settings, which Airflow's own environment cannot import. The
standard library only.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import NamedTuple

DEFAULT_URL = "http://127.0.0.1:8002"


class AgentPlace(NamedTuple):
    """An address without a slash at its end, the headers to send, and whom to believe."""

    url: str
    headers: dict[str, str]
    verify: ssl.SSLContext | bool
    """True: the system's authorities."""


def agent_place(environ: Mapping[str, str]) -> AgentPlace:
    """From `MLOPS_AGENT_URL`, `AGENT_OPERATOR_TOKEN` and `MLOPS_TLS_*`; an empty one is not set.

    Raises:
        OSError: a file of `MLOPS_TLS_*` cannot be read, or is not what it should be.
    """
    url = environ.get("MLOPS_AGENT_URL", "").strip() or DEFAULT_URL
    token = environ.get("AGENT_OPERATOR_TOKEN", "").strip()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return AgentPlace(url.rstrip("/"), headers, _trust(environ))


def _trust(environ: Mapping[str, str]) -> ssl.SSLContext | bool:
    ca, cert, key = (environ.get(f"MLOPS_TLS_{name}", "").strip() for name in ("CA", "CERT", "KEY"))
    if not (ca or cert):
        return True
    context = ssl.create_default_context(cafile=ca or None)
    if cert:
        context.load_cert_chain(cert, key or None)
    return context
