"""The settings as typed values, one for each part. Pure: nothing is read from the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from mlops.feature_store.settings import ClickHouseSettings
from mlops.service.tls_settings import ClientTls

LEAST_PERCENTAGE: Final = 0.01
"""Of the traffic: a basis point. With less nothing could ever be proved."""

_USER_INFORMATION = re.compile(r"//\S*@")


def without_user(text: str) -> str:
    """The same with the user's name and password taken out of every address in it, to be shown."""
    return _USER_INFORMATION.sub("//(hidden)@", text)


class RegistryStage(StrEnum):
    """Which alias a caller means that names no version. The words are MLflow's old stages."""

    PRODUCTION = "Production"
    STAGING = "Staging"

    @property
    def alias(self) -> str:
        """In the registry."""
        return "champion" if self is RegistryStage.PRODUCTION else "challenger"


class Strategy(StrEnum):
    """How a release goes, unless a policy says so; the shipped policy of that name."""

    CANARY = "canary"
    SHADOW = "shadow"
    BLUE_GREEN = "blue_green"


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowSettings:
    """Where runs are tracked and models are registered."""

    tracking_uri: str
    experiment_name: str
    registry_uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MinioSettings:
    """Where model files lie: any server that speaks S3."""

    endpoint: str
    """`HOST:PORT`, without a scheme; `secure` says which."""
    access_key: str
    secret_key: str = field(repr=False)
    bucket_name: str
    secure: bool
    encrypted: bool
    """Ask the server to encrypt what it stores (SSE-S3)."""
    cache_dir: Path
    """Downloaded chunks are kept here."""
    cache_bytes: int
    """Size of the cache; what was used longest ago goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What the registry and the agent do with versions."""

    stage: RegistryStage
    canary_threshold: float
    """Ceiling on the absolute margins of errors and score, 0..1; never a chance of being wrong."""
    rollback_enabled: bool
    """False: a regression holds and pages; rollback by hand and the end of a lease still work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingSettings:
    """When models are trained again, on what."""

    schedule: str
    """As Airflow takes it: a preset such as `@daily`, or a cron expression."""
    data_path: Path
    """Folder of the partitions."""
    min_samples: int
    """Valid samples needed; with fewer, retraining is skipped and says how many there were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSettings:
    """How a version is brought to its users."""

    strategy: Strategy
    canary_traffic_percentage: float
    """One `setWeight`, 0.01..95."""
    percentage_is_set: bool = False
    """Somebody chose that percentage; otherwise the shipped policy has steps of its own."""
    rollback_timeout_minutes: float
    """Longest INVALID before a release is aborted without blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacesSettings:
    """Where the gateways, the agent and the managed model servers are."""

    gateway_admin_urls: tuple[str, ...]
    gateway_token: str = field(repr=False)
    agent_url: str
    agent_token: str = field(repr=False)
    pool_a: tuple[str, ...]
    pool_b: tuple[str, ...]
    """Managed model servers: stable is on one pool, a new version is loaded on the other."""
    server_token: str = field(repr=False)
    tls: ClientTls = field(default_factory=ClientTls)
    """How those with an `https://` address are spoken to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeSettings:
    """Who is told of rollbacks by hand and of what monitoring found. The agent's own notices are in
    the agent's file."""

    url: str = field(default="", repr=False)
    """Empty: nobody. May be a secret as a whole."""
    secret: str = field(default="", repr=False)
    """Signs as Standard Webhooks says; empty: not signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlopsConfig:
    """Everything. A part of the library takes its own value of these."""

    mlflow: MlflowSettings
    clickhouse: ClickHouseSettings
    minio: MinioSettings
    model: ModelSettings
    retraining: RetrainingSettings
    rollout: RolloutSettings
    places: PlacesSettings
    notices: NoticeSettings = NoticeSettings()
