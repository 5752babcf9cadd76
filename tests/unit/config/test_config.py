"""Settings: which source wins, what is refused with which words, and that secrets stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops.config import ConfigError, MlopsConfig, Origin, RegistryStage, Strategy, read_config
from mlops.config.names import SETTINGS
from mlops.config.reading import effective


def test_nothing_given_means_the_local_stack(tmp_path: Path) -> None:
    config = read_config({}, tmp_path)

    assert config.mlflow.tracking_uri == config.mlflow.registry_uri == "http://localhost:5000"
    assert config.clickhouse.port == 8123
    assert config.minio.endpoint == "localhost:9000"
    assert config.minio.cache_bytes == 4 * 1024**3
    assert config.model.stage is RegistryStage.PRODUCTION
    assert config.model.stage.alias == "champion"
    assert config.rollout.strategy is Strategy.CANARY
    assert config.places.gateway_admin_urls == ("http://127.0.0.1:8001",)


def test_environment_wins_over_files_and_files_over_the_running_stack(tmp_path: Path) -> None:
    (tmp_path / "mlops").mkdir()
    (tmp_path / "var/up").mkdir(parents=True)
    (tmp_path / ".env").write_text("MLOPS_MINIO_BUCKET_NAME=of-file\nMLOPS_CLICKHOUSE_USER=file\n")
    (tmp_path / "mlops/.env").write_text("MLOPS_MINIO_BUCKET_NAME=deeper\nMLOPS_MINIO_SECURE=yes\n")
    (tmp_path / "var/up/stack.env").write_text(
        "MLOPS_MINIO_SECURE=no\nMLOPS_MINIO_ENDPOINT=127.0.0.1:9444\n"
    )

    found = effective({"MLOPS_CLICKHOUSE_USER": "shell"}, tmp_path)

    assert (found["MLOPS_CLICKHOUSE_USER"].value, found["MLOPS_CLICKHOUSE_USER"].origin) == (
        "shell",
        Origin.ENVIRONMENT,
    )
    assert found["MLOPS_MINIO_BUCKET_NAME"].value == "of-file"
    assert found["MLOPS_MINIO_SECURE"].origin is Origin.MLOPS_FILE
    assert found["MLOPS_MINIO_ENDPOINT"].origin is Origin.STACK
    assert found["MLOPS_RETRAINING_SCHEDULE"].origin is Origin.DEFAULT


def test_an_unknown_name_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean MLOPS_MINIO_ENDPOINT"):
        read_config({"MLOPS_MINIO_ENDPIONT": "x"}, tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("MLOPS_CLICKHOUSE_PORT", "9000", "native protocol"),
        ("MLOPS_MINIO_SECURE", "maybe", "true or false"),
        ("MLOPS_MINIO_ENDPOINT", "http://localhost:9000", "without a scheme"),
        ("MLOPS_MINIO_CACHE_SIZE", "4 apples", "such as 512MiB"),
        ("MLOPS_MODEL_CANARY_THRESHOLD", "5", "from 0 to 1"),
        ("MLOPS_MODEL_REGISTRY_STAGE", "production", "Production or Staging"),
        ("MLOPS_RETRAINING_MIN_SAMPLES", "1.5", "a whole number"),
        ("MLOPS_DEPLOYMENT_STRATEGY", "yolo", "canary or shadow or blue_green"),
        ("MLOPS_CANARY_TRAFFIC_PERCENTAGE", "96", "from 0.01 to 95"),
        ("MLOPS_CANARY_TRAFFIC_PERCENTAGE", "0", "from 0.01 to 95"),
        ("MLOPS_MLFLOW_TRACKING_URI", "localhost", "with a scheme"),
        ("MLOPS_MINIO_ENDPOINT", "localhost:port", "HOST:PORT"),
        ("MLOPS_MINIO_ENDPOINT", "local host:9000", "HOST:PORT"),
        ("MLOPS_MLFLOW_TRACKING_URI", "http://[::1", "with a scheme"),
        ("MLOPS_MLFLOW_TRACKING_URI", "localhost:5000", "with a scheme"),
        ("MLOPS_AGENT_URL", "localhost:8002", "addresses such as"),
        ("MLOPS_AGENT_URL", "http://a:8002,http://b:8002", "one address"),
        ("MLOPS_MODEL_POOL_A", "http://ann@a:8011", "without a user; .* got 'http://.hidden"),
        ("MLOPS_GATEWAY_ADMIN_URLS", "127.0.0.1:8001", "addresses such as"),
        ("MLOPS_GATEWAY_ADMIN_URLS", "http://[::1", "addresses such as"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_was_expected(
    name: str, value: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence) as refused:
        read_config({name: value}, tmp_path)

    assert name.rpartition("_")[0].split("_")[1] in str(refused.value)


def test_secrets_are_neither_shown_nor_in_a_repr(tmp_path: Path) -> None:
    environ = {setting.name: "hush-hush" for setting in SETTINGS if setting.secret}
    environ["MLOPS_NOTICE_URL"] = "https://hooks.example/hush-hush"

    config: MlopsConfig = read_config(environ, tmp_path)

    assert "hush-hush" not in repr(config)
    assert all("hush" not in one.shown for one in effective(environ, tmp_path).values())


ORIGINAL = """\
# MLflow Configuration
MLOPS_MLFLOW_TRACKING_URI=http://localhost:5000
MLOPS_MLFLOW_EXPERIMENT_NAME=rag_retraining
MLOPS_MLFLOW_REGISTRY_URI=http://localhost:5000

# ClickHouse Configuration
MLOPS_CLICKHOUSE_HOST=localhost
MLOPS_CLICKHOUSE_PORT=9000
MLOPS_CLICKHOUSE_DATABASE=rag_features
MLOPS_CLICKHOUSE_USER=default
MLOPS_CLICKHOUSE_PASSWORD=

# MinIO Configuration
MLOPS_MINIO_ENDPOINT=localhost:9000
MLOPS_MINIO_ACCESS_KEY=minioadmin
MLOPS_MINIO_SECRET_KEY=minioadmin
MLOPS_MINIO_BUCKET_NAME=rag-artifacts
MLOPS_MINIO_SECURE=false

# Model Registry Configuration
MLOPS_MODEL_REGISTRY_STAGE=Production
MLOPS_MODEL_CANARY_THRESHOLD=0.05
MLOPS_MODEL_ROLLBACK_ENABLED=true

# Retraining Configuration
MLOPS_RETRAINING_SCHEDULE=@daily
MLOPS_RETRAINING_DATA_PATH=/data/retraining
MLOPS_RETRAINING_MIN_SAMPLES=100

# Deployment Configuration
MLOPS_DEPLOYMENT_STRATEGY=canary
MLOPS_CANARY_TRAFFIC_PERCENTAGE=10
MLOPS_ROLLBACK_TIMEOUT_MINUTES=30
"""
"""The whole example of the original description, for `mlops/.env`."""


def test_every_setting_of_the_originals_example_is_one_of_ours(tmp_path: Path) -> None:
    """All but the port of ClickHouse, which is that of another protocol, and MinIO's."""
    (tmp_path / "mlops").mkdir()
    (tmp_path / "mlops/.env").write_text(ORIGINAL)
    with pytest.raises(ConfigError, match="which ClickHouse serves on 8123"):
        read_config({}, tmp_path)

    environ = {"MLOPS_CLICKHOUSE_PORT": "8123"}
    found = effective(environ, tmp_path)
    config = read_config(environ, tmp_path)

    lines = dict(line.split("=") for line in ORIGINAL.splitlines() if "=" in line)
    for name, value in lines.items():
        assert found[name].value == environ.get(name, value)
    assert config.minio.endpoint == "localhost:9000"
    assert (config.minio.access_key, config.minio.secret_key) == ("minioadmin", "minioadmin")
    assert config.model.canary_threshold == 0.05
    assert config.model.rollback_enabled
    assert config.retraining.schedule == "@daily"
    assert config.retraining.min_samples == 100
    assert config.rollout.canary_traffic_percentage == 10
    assert config.rollout.percentage_is_set
    assert config.rollout.rollback_timeout_minutes == 30


@pytest.mark.parametrize("address", ["sqlite:///runs.db", "file:./runs", "databricks://team"])
def test_mlflow_has_addresses_of_its_own(address: str, tmp_path: Path) -> None:
    assert read_config({"MLOPS_MLFLOW_TRACKING_URI": address}, tmp_path).mlflow.tracking_uri == (
        address
    )


@pytest.mark.parametrize("address", ["s3.example.org", "127.0.0.1:9000", "[::1]:9000"])
def test_an_s3_server_is_a_host_and_perhaps_a_port(address: str, tmp_path: Path) -> None:
    assert read_config({"MLOPS_MINIO_ENDPOINT": address}, tmp_path).minio.endpoint == address


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"MLOPS_MINIO_SECRET_KEY=caf\xe9\n")
    with pytest.raises(ConfigError, match=r"\.env: .* in UTF-8") as refused:
        read_config({}, tmp_path)
    assert "caf" not in str(refused.value)
