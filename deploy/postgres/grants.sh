#!/bin/sh
# What the training dashboard reads, and nothing else: no connection, variable or password of Airflow's.
set -eu

grant() {
  database=$1
  shift
  for table in "$@"; do
    psql -v ON_ERROR_STOP=1 -h "${PGHOST:-postgres}" -U postgres -d "$database" -c "GRANT SELECT ON $table TO grafana_user"
  done
}

grant mlflow_db experiments runs latest_metrics metrics params model_versions registered_model_aliases
grant airflow_db dag dag_run task_instance
