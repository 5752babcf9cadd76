"""Aliases and tags in MLflow's registry, set while others set them too.

MLflow looks for a row and then inserts it, so of two who set the same one at the same time its
database refuses one; asked again, it finds the row and updates it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mlflow import MlflowClient
from mlflow.exceptions import RestException

from mlops.registry.values import Alias

ATTEMPTS: Final = 4
"""One is enough against one other; more are for many at once."""


def aliases_of(client: MlflowClient, model: str) -> dict[str, str]:
    """Alias to MLflow's version; a search for versions does not bring them."""
    found = client.search_registered_models(f"name = '{model}'")
    return {alias: str(version) for one in found for alias, version in one.aliases.items()}


def set_alias(client: MlflowClient, model: str, alias: Alias, mlflow_version: str) -> None:
    """Let an alias lead to a version, wherever it led before."""
    _again(lambda: client.set_registered_model_alias(model, alias, mlflow_version))


def set_tag(client: MlflowClient, model: str, mlflow_version: str, key: str, value: str) -> None:
    """Tag a version, whatever the tag was before."""
    _again(lambda: client.set_model_version_tag(model, mlflow_version, key, value))


def make_champion(client: MlflowClient, model: str, promoted: str, before: str | None) -> None:
    """Move `champion` to a version, and `previous` to the one before it (None: there was none).

    MLflow sets aliases one by one, so another promotion at the same time may come between:
    `previous` must lead back, never to the champion itself.
    """
    if before is not None:
        set_alias(client, model, Alias.PREVIOUS, before)
    set_alias(client, model, Alias.CHAMPION, promoted)
    while before is not None:
        aliases = aliases_of(client, model)
        champion = aliases.get(Alias.CHAMPION)
        if aliases.get(Alias.PREVIOUS) != champion:
            return
        set_alias(client, model, Alias.PREVIOUS, before if champion == promoted else promoted)


def _again(call: Callable[[], None]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except RestException as error:
            if attempt == ATTEMPTS or "IntegrityError" not in str(error):
                raise
    return None
