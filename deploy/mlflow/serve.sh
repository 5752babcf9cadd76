#!/bin/sh
# MLflow with accounts, kept in the database that runs and models are kept in; accounts.py makes them.
# A password that was believed is believed for a minute more: to check one takes a tenth of a second of CPU.
set -eu
umask 077
export MLFLOW_AUTH_CONFIG_PATH="${MLFLOW_AUTH_CONFIG_PATH:-/tmp/accounts.ini}"
cat > "$MLFLOW_AUTH_CONFIG_PATH" <<INI
[mlflow]
default_permission = READ
database_uri = $MLFLOW_BACKEND_STORE_URI
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
INI
exec mlflow server --app-name basic-auth --host "${MLFLOW_LISTEN_HOST:-0.0.0.0}" \
  --port "${MLFLOW_LISTEN_PORT:-5000}" --workers "${MLFLOW_WORKERS:-2}" --artifacts-destination "$MLFLOW_FILES" --allowed-hosts "localhost:*,127.0.0.1:*,mlflow:*"
