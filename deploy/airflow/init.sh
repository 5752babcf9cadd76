#!/bin/sh
# Airflow's tables, and its users' passwords, as the simple auth manager reads them.
set -eu
airflow db migrate
umask 027
printf '{"admin": "%s", "operator": "%s", "viewer": "%s"}\n' \
  "$AIRFLOW_ADMIN_PASSWORD" "$AIRFLOW_OPERATOR_PASSWORD" "$AIRFLOW_VIEWER_PASSWORD" \
  > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
