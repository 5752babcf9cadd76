"""Every `MLOPS_*` setting, from the environment, a `.env` file or the local stack."""

from mlops.config.reading import ConfigError, Effective, Origin, read_config
from mlops.config.values import (
    MinioSettings,
    MlflowSettings,
    MlopsConfig,
    ModelSettings,
    NoticeSettings,
    PlacesSettings,
    RegistryStage,
    RetrainingSettings,
    RolloutSettings,
    Strategy,
)

__all__ = [
    "ConfigError",
    "Effective",
    "MinioSettings",
    "MlflowSettings",
    "MlopsConfig",
    "ModelSettings",
    "NoticeSettings",
    "Origin",
    "PlacesSettings",
    "RegistryStage",
    "RetrainingSettings",
    "RolloutSettings",
    "Strategy",
    "read_config",
]
