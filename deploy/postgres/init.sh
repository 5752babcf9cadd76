#!/bin/sh
# Run once by PostgreSQL's image, on an empty data directory: a user and a database for each program.
set -eu

sql() { psql -v ON_ERROR_STOP=1 -U postgres "$@"; }

for program in mlflow airflow agent; do
  case $program in
    mlflow) password=$MLFLOW_DB_PASSWORD ;;
    airflow) password=$AIRFLOW_DB_PASSWORD ;;
    agent) password=$AGENT_DB_PASSWORD ;;
  esac
  sql <<SQL
CREATE USER ${program}_user PASSWORD '$password';
CREATE DATABASE ${program}_db OWNER ${program}_user;
REVOKE ALL ON DATABASE ${program}_db FROM PUBLIC;
SQL
done
sql <<SQL
CREATE USER grafana_user PASSWORD '$GRAFANA_DB_PASSWORD' CONNECTION LIMIT 20;
ALTER USER grafana_user SET default_transaction_read_only = on;
ALTER USER grafana_user SET statement_timeout = '30s';
GRANT CONNECT ON DATABASE mlflow_db, airflow_db TO grafana_user;
SQL
