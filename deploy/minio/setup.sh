#!/bin/sh
# Buckets, one policy and one user for each program that stores here. Everything can be repeated.
set -eu

mc mb --ignore-existing myminio/rag-artifacts myminio/mlflow
for bucket in rag-artifacts mlflow; do
  mc version enable "myminio/$bucket"
  mc encrypt set sse-s3 "myminio/$bucket"
  mc ilm rule ls --json "myminio/$bucket" | grep -q '"Days": *30\|NoncurrentDays' ||
    mc ilm rule add --noncurrent-expire-days 30 "myminio/$bucket"
done
mc admin policy create myminio rag-artifacts /deploy/rag-artifacts.json
mc admin policy create myminio mlflow /deploy/mlflow.json
mc admin user add myminio "$ARTIFACTS_ACCESS_KEY" "$ARTIFACTS_SECRET_KEY"
mc admin user add myminio "$MLFLOW_S3_ACCESS_KEY" "$MLFLOW_S3_SECRET_KEY"
attach() {   # to attach what is attached is an error to mc, and none to us
  mc admin policy attach myminio "$1" --user "$2" || mc admin user info myminio "$2" | grep -q "$1"
}
attach rag-artifacts "$ARTIFACTS_ACCESS_KEY"
attach mlflow "$MLFLOW_S3_ACCESS_KEY"
touch /tmp/ready
exec sleep infinity
