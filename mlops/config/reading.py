"""Read the settings: environment first, then `.env`, then the stack that runs here, then defaults.

Importing this reads nothing and changes nothing; `read_config` is called once, at the edge.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values
from standardwebhooks import Webhook

from mlops.config.names import BY_NAME, SETTINGS, Setting
from mlops.config.values import (
    LEAST_PERCENTAGE,
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
    without_user,
)
from mlops.contracts.plan import MAX_CANARY_SHARE_BP
from mlops.feature_store.settings import ClickHouseSettings
from mlops.service.tls_settings import ClientTls

ENV_FILES = (Path(".env"), Path("mlops/.env"))
"""Below the working directory; the first that names a setting wins."""

STACK_FILE = Path("var/up/stack.env")
"""Written by `rag-mlops up`: where its parts listen, and with which secrets."""

_PREFIX = "MLOPS_"
_SIZES = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_HOST_AND_PORT = re.compile(r"[^/:]+:\d+\Z")
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class ConfigError(ValueError):
    """A setting is unknown or does not fit: names it, where it stands, and what was expected."""


class Origin(StrEnum):
    """Where a value came from."""

    ENVIRONMENT = "environment"
    FILE = ".env"
    MLOPS_FILE = "mlops/.env"
    STACK = "var/up/stack.env"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """One setting as it is in force."""

    setting: Setting
    value: str
    origin: Origin

    @property
    def shown(self) -> str:
        """The value to print, without a user in an address; of a secret only whether it is set."""
        if self.setting.secret:
            return "(set)" if self.value else "(not set)"
        return without_user(self.value)


def read_config(
    environ: Mapping[str, str] | None = None, directory: Path | None = None
) -> MlopsConfig:
    """The whole configuration.

    Args:
        environ: the environment; by default this process's.
        directory: where the `.env` files are looked for; by default the working directory.

    Raises:
        ConfigError: a name with our prefix is unknown, a value does not fit, or a file cannot be
            read.
    """
    return config_of(effective(environ, directory))


def effective(
    environ: Mapping[str, str] | None = None, directory: Path | None = None
) -> dict[str, Effective]:
    """Every setting with its value and where that came from.

    Raises:
        ConfigError: a name with our prefix is unknown, or a file cannot be read.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251  the library's only read
    root = Path() if directory is None else directory
    sources: list[tuple[Origin, Mapping[str, str | None]]] = [(Origin.ENVIRONMENT, environ)]
    for origin, path in zip(
        (Origin.FILE, Origin.MLOPS_FILE, Origin.STACK), (*ENV_FILES, STACK_FILE), strict=True
    ):
        if (root / path).is_file():
            sources.append((origin, _read_file(root / path)))
    for origin, source in sources:
        _refuse_unknown(origin, source)
    return {setting.name: _first(setting, sources) for setting in SETTINGS}


def _read_file(path: Path) -> Mapping[str, str | None]:
    try:
        return dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}; expected lines NAME=VALUE in UTF-8") from error


def _refuse_unknown(origin: Origin, source: Mapping[str, str | None]) -> None:
    for name in sorted(source):
        if name.startswith(_PREFIX) and name not in BY_NAME:
            close = get_close_matches(name, BY_NAME, n=1)
            hint = (
                f"did you mean {close[0]}?" if close else "`rag-mlops config` lists what there is"
            )
            raise ConfigError(f"{name} ({origin}) is not a setting; {hint}")


def _first(setting: Setting, sources: list[tuple[Origin, Mapping[str, str | None]]]) -> Effective:
    for origin, source in sources:
        value = source.get(setting.name)
        if value is not None and value.strip():
            return Effective(setting=setting, value=value.strip(), origin=origin)
    return Effective(setting=setting, value=setting.default, origin=Origin.DEFAULT)


def config_of(found: Mapping[str, Effective]) -> MlopsConfig:
    """The values as types.

    Raises:
        ConfigError: a value does not fit.
    """
    read = _Reader(found)
    tracking = read.url("MLOPS_MLFLOW_TRACKING_URI")
    return MlopsConfig(
        mlflow=MlflowSettings(
            tracking_uri=tracking,
            experiment_name=read.text("MLOPS_MLFLOW_EXPERIMENT_NAME"),
            registry_uri=read.url("MLOPS_MLFLOW_REGISTRY_URI") or tracking,
        ),
        clickhouse=read.clickhouse(),
        minio=read.minio(),
        model=ModelSettings(
            stage=RegistryStage(read.one_of("MLOPS_MODEL_REGISTRY_STAGE", list(RegistryStage))),
            canary_threshold=read.number("MLOPS_MODEL_CANARY_THRESHOLD", 0, 1),
            rollback_enabled=read.boolean("MLOPS_MODEL_ROLLBACK_ENABLED"),
        ),
        retraining=RetrainingSettings(
            schedule=read.text("MLOPS_RETRAINING_SCHEDULE"),
            data_path=Path(read.text("MLOPS_RETRAINING_DATA_PATH")),
            min_samples=int(read.number("MLOPS_RETRAINING_MIN_SAMPLES", 1, 1e9, whole=True)),
        ),
        rollout=RolloutSettings(
            strategy=Strategy(read.one_of("MLOPS_DEPLOYMENT_STRATEGY", list(Strategy))),
            canary_traffic_percentage=read.number(
                "MLOPS_CANARY_TRAFFIC_PERCENTAGE", LEAST_PERCENTAGE, MAX_CANARY_SHARE_BP / 100
            ),
            percentage_is_set=read.is_set("MLOPS_CANARY_TRAFFIC_PERCENTAGE"),
            rollback_timeout_minutes=read.number("MLOPS_ROLLBACK_TIMEOUT_MINUTES", 0, 1e6),
        ),
        places=read.places(),
        notices=read.notices(),
    )


class _Reader:
    """Values by name, as types; every refusal names the setting and where it stands."""

    def __init__(self, found: Mapping[str, Effective]) -> None:
        self._found = found

    def text(self, name: str) -> str:
        return self._found[name].value

    def is_set(self, name: str) -> bool:
        return self._found[name].origin is not Origin.DEFAULT

    def refuse(self, name: str, expected: str) -> ConfigError:
        one = self._found[name]
        came = "" if one.setting.secret else f", got {one.shown!r}"
        return ConfigError(f"{name} ({one.origin}): expected {expected}{came}")

    def boolean(self, name: str) -> bool:
        value = _BOOLEANS.get(self.text(name).lower())
        if value is None:
            raise self.refuse(name, "true or false")
        return value

    def number(self, name: str, least: float, most: float, *, whole: bool = False) -> float:
        expected = f"a {'whole ' if whole else ''}number from {least:g} to {most:g}"
        try:
            value = float(self.text(name))
        except ValueError:
            raise self.refuse(name, expected) from None
        if not least <= value <= most or (whole and value != int(value)):
            raise self.refuse(name, expected)
        return value

    def size(self, name: str) -> int:
        text = self.text(name)
        digits = text.rstrip("KMGTiB")
        unit = text[len(digits) :]
        if not digits.isascii() or not digits.isdigit() or unit not in _SIZES:
            raise self.refuse(name, "a size such as 512MiB or 4GiB")
        return int(digits) * _SIZES[unit]

    def one_of(self, name: str, words: list[str]) -> str:
        if self.text(name) not in words:
            raise self.refuse(name, " or ".join(words))
        return self.text(name)

    def url(self, name: str) -> str:
        text = self.text(name)
        # `localhost:5000` has a scheme as well: of an address without a host, `localhost`.
        if text and (not _scheme(text) or _HOST_AND_PORT.match(text)):
            raise self.refuse(name, "an address with a scheme, such as http://localhost:5000")
        return text

    def http_url(self, name: str) -> str:
        (only, *others) = self.urls(name)
        if others:
            raise self.refuse(name, "one address")
        return only

    def client_tls(self) -> ClientTls:
        ca, cert, key = (self.text(f"MLOPS_TLS_{name}") or None for name in ("CA", "CERT", "KEY"))
        if (cert is None) != (key is None):
            raise self.refuse("MLOPS_TLS_CERT", "MLOPS_TLS_CERT and MLOPS_TLS_KEY, or neither")
        return ClientTls(ca=ca, cert=cert, key=key)

    def urls(self, name: str) -> tuple[str, ...]:
        found = tuple(part.strip().rstrip("/") for part in self.text(name).split(","))
        if not all(_scheme(part) in {"http", "https"} for part in found):
            raise self.refuse(name, "addresses such as http://HOST:PORT, with commas between")
        if any("@" in urlsplit(part).netloc for part in found):
            raise self.refuse(name, "addresses without a user; tokens have settings of their own")
        return found

    def minio(self) -> MinioSettings:
        return MinioSettings(
            endpoint=self.endpoint("MLOPS_MINIO_ENDPOINT"),
            access_key=self.text("MLOPS_MINIO_ACCESS_KEY"),
            secret_key=self.text("MLOPS_MINIO_SECRET_KEY"),
            bucket_name=self.text("MLOPS_MINIO_BUCKET_NAME"),
            secure=self.boolean("MLOPS_MINIO_SECURE"),
            encrypted=self.boolean("MLOPS_MINIO_ENCRYPTED"),
            cache_dir=Path(self.text("MLOPS_MINIO_CACHE_DIR")),
            cache_bytes=self.size("MLOPS_MINIO_CACHE_SIZE"),
        )

    def places(self) -> PlacesSettings:
        return PlacesSettings(
            gateway_admin_urls=self.urls("MLOPS_GATEWAY_ADMIN_URLS"),
            gateway_token=self.text("GATEWAY_OPERATOR_TOKEN"),
            agent_url=self.http_url("MLOPS_AGENT_URL"),
            agent_token=self.text("AGENT_OPERATOR_TOKEN"),
            pool_a=self.urls("MLOPS_MODEL_POOL_A"),
            pool_b=self.urls("MLOPS_MODEL_POOL_B"),
            server_token=self.text("MODEL_SERVER_TOKEN"),
            tls=self.client_tls(),
        )

    def notices(self) -> NoticeSettings:
        url, secret = self.text("MLOPS_NOTICE_URL"), self.text("MLOPS_NOTICE_SECRET")
        if url and _scheme(url) not in {"http", "https"}:
            raise self.refuse("MLOPS_NOTICE_URL", "an address such as https://HOST/hook")
        if secret:
            try:
                Webhook(secret)
            except Exception:  # each kind of bad secret has an exception of its own
                raise self.refuse("MLOPS_NOTICE_SECRET", "`whsec_` and base64") from None
        return NoticeSettings(url=url, secret=secret)

    def endpoint(self, name: str) -> str:
        text = self.text(name)
        if "/" in text or not _has_host_and_port(text):
            raise self.refuse(name, "HOST:PORT without a scheme; MLOPS_MINIO_SECURE chooses HTTPS")
        return text

    def clickhouse(self) -> ClickHouseSettings:
        prefix = "MLOPS_CLICKHOUSE_"
        values = {name: self.text(name) for name in self._found if name.startswith(prefix)}
        try:
            return ClickHouseSettings.parse(values)
        except ValueError as exc:
            raise ConfigError(f"{prefix}*: {exc}") from exc


def _has_host_and_port(address: str) -> bool:
    """Whether it is HOST or HOST:PORT."""
    try:
        parts = urlsplit(f"//{address}")
        return bool(parts.hostname) and parts.port != 0 and not re.search(r"\s|@", address)
    except ValueError:  # a port that is no number, say
        return False


def _scheme(address: str) -> str:
    """Of an address; empty where it is none."""
    try:
        return urlsplit(address).scheme
    except ValueError:  # a bracket that is not closed, say
        return ""
