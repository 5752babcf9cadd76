"""Name, default and meaning of every setting: what `rag-mlops config` prints, and docs list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable."""

    name: str
    default: str
    meaning: str
    """With its unit, where it has one."""
    secret: bool = False


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("MLOPS_MLFLOW_TRACKING_URI", "http://localhost:5000", "where runs are tracked"),
    Setting("MLOPS_MLFLOW_EXPERIMENT_NAME", "rag_retraining", "experiment of the runs"),
    Setting(
        "MLOPS_MLFLOW_REGISTRY_URI",
        "",
        "where models are registered; empty: where runs are tracked",
    ),
    Setting("MLOPS_CLICKHOUSE_HOST", "localhost", "ClickHouse server"),
    Setting("MLOPS_CLICKHOUSE_PORT", "8123", "port of its HTTP interface"),
    Setting("MLOPS_CLICKHOUSE_DATABASE", "rag_features", "database that is ours on it"),
    Setting("MLOPS_CLICKHOUSE_USER", "default", "its user"),
    Setting("MLOPS_CLICKHOUSE_PASSWORD", "", "the user's password", secret=True),
    Setting("MLOPS_CLICKHOUSE_CLUSTER", "", "name in remote_servers; empty: a single server"),
    Setting(
        "MLOPS_CLICKHOUSE_RETENTION",
        "",
        "days kept per table, as in `query_features=90d,tallies=30d`",
    ),
    Setting("MLOPS_MINIO_ENDPOINT", "localhost:9000", "S3 server, HOST:PORT"),
    Setting("MLOPS_MINIO_ACCESS_KEY", "", "its access key"),
    Setting("MLOPS_MINIO_SECRET_KEY", "", "its secret key", secret=True),
    Setting("MLOPS_MINIO_BUCKET_NAME", "rag-artifacts", "bucket of the model files"),
    Setting("MLOPS_MINIO_SECURE", "false", "HTTPS to the S3 server"),
    Setting("MLOPS_MINIO_ENCRYPTED", "false", "ask it to encrypt what it stores (SSE-S3)"),
    Setting("MLOPS_MINIO_CACHE_DIR", "var/cache/artifacts", "folder of downloaded chunks"),
    Setting("MLOPS_MINIO_CACHE_SIZE", "4GiB", "size of that cache; 0: none"),
    Setting(
        "MLOPS_MODEL_REGISTRY_STAGE",
        "Production",
        "version meant where none is named: Production (champion), Staging (challenger)",
    ),
    Setting(
        "MLOPS_MODEL_CANARY_THRESHOLD",
        "0.05",
        "ceiling on the absolute margins of errors and score, 0..1",
    ),
    Setting(
        "MLOPS_MODEL_ROLLBACK_ENABLED",
        "true",
        "false: a regression holds and pages, and nothing is rolled back by itself",
    ),
    Setting("MLOPS_RETRAINING_SCHEDULE", "@daily", "preset or cron expression of the retraining"),
    Setting("MLOPS_RETRAINING_DATA_PATH", "/data/retraining", "folder of the partitions"),
    Setting("MLOPS_RETRAINING_MIN_SAMPLES", "100", "valid samples needed to train"),
    Setting("MLOPS_DEPLOYMENT_STRATEGY", "canary", "canary, shadow or blue_green"),
    Setting("MLOPS_CANARY_TRAFFIC_PERCENTAGE", "10", "percent of the traffic, 0.01..95"),
    Setting(
        "MLOPS_ROLLBACK_TIMEOUT_MINUTES",
        "30",
        "minutes of evidence that cannot be trusted until a release is aborted",
    ),
    Setting(
        "MLOPS_GATEWAY_ADMIN_URLS",
        "http://127.0.0.1:8001",
        "admin addresses of all gateways, with commas between",
    ),
    Setting("MLOPS_AGENT_URL", "http://127.0.0.1:8002", "address of the agent"),
    Setting(
        "MLOPS_TLS_CA",
        "",
        "PEM file of who signed the certificates of gateways, agent and managed model servers; "
        "empty: the system's",
    ),
    Setting("MLOPS_TLS_CERT", "", "PEM file of the certificate that is shown to them"),
    Setting("MLOPS_TLS_KEY", "", "PEM file of its key"),
    Setting(
        "MLOPS_MODEL_POOL_A",
        "http://127.0.0.1:8011",
        "managed model servers of pool a, with commas between",
    ),
    Setting(
        "MLOPS_MODEL_POOL_B",
        "http://127.0.0.1:8012",
        "managed model servers of pool b, with commas between",
    ),
    Setting(
        "MLOPS_NOTICE_URL",
        "",
        "webhook that is told of rollbacks by hand and of monitoring's alerts; empty: nobody is",
        secret=True,
    ),
    Setting(
        "MLOPS_NOTICE_SECRET",
        "",
        "`whsec_...`: signs them as Standard Webhooks says; empty: not signed",
        secret=True,
    ),
    Setting("MODEL_SERVER_TOKEN", "", "token for loading versions on them", secret=True),
    Setting("GATEWAY_OPERATOR_TOKEN", "", "token for the gateways' admin API", secret=True),
    Setting("AGENT_OPERATOR_TOKEN", "", "token for the agent's API", secret=True),
)

BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
