"""Answer `/health` as Airflow 2 did, with what Airflow 3 says at `/api/v2/monitor/health`.

Airflow 3 answers 404 there; what watches it from outside often still asks the old path.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

OLD = "/health"
NEW = "/api/v2/monitor/health"


class HealthPath:
    """ASGI middleware: one path is read as another."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == OLD:
            scope = {**scope, "path": NEW, "raw_path": NEW.encode()}
        await self._app(scope, receive, send)


class HealthPathPlugin(AirflowPlugin):
    name = "health_path"
    fastapi_root_middlewares = [{"middleware": HealthPath, "name": "health_path"}]  # noqa: RUF012
