# Two images: `runtime` is gateway, recorder, agent, model server, MLflow and the command line; `airflow` is
# Airflow with the DAGs. `make images` builds both on a base made of Debian, where no image registry is reached.
ARG PYTHON_IMAGE=docker.io/library/python:3.11.13-slim-bookworm

# ---- what was locked, with hashes, into a virtual environment that moves as it is ----------------------
FROM ${PYTHON_IMAGE} AS locked
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/run.lock /build/
RUN python3 -m venv --copies /opt/venv \
 && /opt/venv/bin/pip install --quiet --only-binary :all: --require-hashes -r /build/run.lock

# ---- the gateway's request path, compiled where there is a compiler; only the result goes on ------------
FROM locked AS compiled
RUN apt-get update -qq \
 && headers=$(python3 -c 'import os, sysconfig; print(os.path.exists(sysconfig.get_path("include") + "/Python.h"))') \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends gcc libc6-dev $(test "$headers" = True || echo python3-dev) >/dev/null
WORKDIR /opt/rag-mlops
COPY pyproject.toml /opt/rag-mlops/
COPY scripts/accelerate.py /opt/rag-mlops/scripts/accelerate.py
COPY mlops /opt/rag-mlops/mlops
COPY gateway /opt/rag-mlops/gateway
RUN /opt/venv/bin/python scripts/accelerate.py

# ---- what is not needed to run is left out --------------------------------------------------------------
FROM locked AS packages
RUN /opt/venv/bin/pip uninstall --quiet --yes pip setuptools mypy \
 && find /opt/venv -name __pycache__ -prune -exec rm -rf {} +

# ---- the programs ---------------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/rag-mlops PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PYTHONWARNINGS=ignore::SyntaxWarning OPENBLAS_NUM_THREADS=1 HOME=/tmp
RUN groupadd --gid 10001 rag && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin rag \
 && mkdir -p /var/lib/rag-mlops /etc/rag-mlops /models \
 && chown rag:rag /var/lib/rag-mlops /models
COPY --from=packages /opt/venv /opt/venv
COPY pyproject.toml LICENSE /opt/rag-mlops/
COPY agent /opt/rag-mlops/agent
COPY cli /opt/rag-mlops/cli
COPY gateway /opt/rag-mlops/gateway
COPY mlops /opt/rag-mlops/mlops
COPY --from=compiled /opt/rag-mlops/gateway/_compiled /opt/rag-mlops/gateway/_compiled
COPY deploy/healthy deploy/rag-mlops /usr/local/bin/
WORKDIR /opt/rag-mlops
RUN rag-mlops --version && python -c 'from gateway import compiled; assert compiled.active(), "the request path is not compiled"'
USER 10001:10001
CMD ["python", "-m", "cli", "--help"]

# ---- Airflow and the DAGs: its own packages, and beside them the project's, in which the DAGs' steps run ---
FROM ${PYTHON_IMAGE} AS airflow-packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/airflow-image.lock requirements/pip.txt /build/
RUN python3 -m venv --copies /opt/airflow-venv \
 && /opt/airflow-venv/bin/pip install --quiet --require-hashes -r /build/pip.txt \
 && /opt/airflow-venv/bin/pip install --quiet --only-binary :all: --require-hashes -r /build/airflow-image.lock \
 && find /opt/airflow-venv -name __pycache__ -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE} AS airflow
ENV PATH=/opt/airflow-venv/bin:$PATH PYTHONPATH=/opt/rag-mlops PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    AIRFLOW_HOME=/tmp/airflow HOME=/tmp RAG_MLOPS_PYTHON=/opt/venv/bin/python OPENBLAS_NUM_THREADS=1
RUN useradd --uid 50000 --gid 0 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin airflow \
 && mkdir -p /opt/airflow/logs /run/airflow /data/retraining \
 && chown airflow:0 /opt/airflow/logs /run/airflow /data/retraining
COPY --from=packages /opt/venv /opt/venv
COPY --from=airflow-packages /opt/airflow-venv /opt/airflow-venv
COPY pyproject.toml LICENSE /opt/rag-mlops/
COPY agent /opt/rag-mlops/agent
COPY cli /opt/rag-mlops/cli
COPY dags /opt/rag-mlops/dags
COPY deploy/airflow /opt/rag-mlops/deploy/airflow
COPY gateway /opt/rag-mlops/gateway
COPY mlops /opt/rag-mlops/mlops
COPY deploy/healthy /usr/local/bin/healthy
WORKDIR /opt/rag-mlops
USER 50000:0
CMD ["airflow", "version"]
