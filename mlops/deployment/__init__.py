"""Bring versions to their users, and take them back.

The names below are looked up when they are asked for: the agent needs only the gateways' client,
and importing that must not load MLflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops.deployment.canary import CanaryDeployment, Deployment
    from mlops.deployment.config import DeploymentConfig
    from mlops.deployment.errors import NotDeployable, ReleaseUnderWay, RollbackIncomplete
    from mlops.deployment.rollback import RollbackManager, RolledBack

__all__ = [
    "CanaryDeployment",
    "Deployment",
    "DeploymentConfig",
    "NotDeployable",
    "ReleaseUnderWay",
    "RollbackIncomplete",
    "RollbackManager",
    "RolledBack",
]

_MODULE_OF = {
    "CanaryDeployment": "canary",
    "Deployment": "canary",
    "DeploymentConfig": "config",
    "NotDeployable": "errors",
    "ReleaseUnderWay": "errors",
    "RollbackIncomplete": "errors",
    "RollbackManager": "rollback",
    "RolledBack": "rollback",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
