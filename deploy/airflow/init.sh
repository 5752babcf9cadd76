#!/bin/sh
# Airflow's tables, and the password of its one user, as the simple auth manager reads it.
set -eu
airflow db migrate
umask 027
printf '{"admin": "%s"}\n' "$AIRFLOW_ADMIN_PASSWORD" > /run/airflow/passwords.json
