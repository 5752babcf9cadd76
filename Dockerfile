# Two images: `runtime` is gateway, recorder, agent, model server, MLflow and the command line; `airflow` is
# Airflow with the DAGs. `make images` builds `runtime` on a base made from Debian where no registry is reached.
ARG PYTHON_IMAGE=docker.io/library/python:3.11.13-slim-bookworm
ARG AIRFLOW_IMAGE=docker.io/apache/airflow:3.3.2-python3.11

# ---- what was locked, with hashes, into a virtual environment that moves as it is ----------------------
FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/run.lock /build/
RUN python3 -m venv --copies /opt/venv \
 && /opt/venv/bin/pip install --quiet --only-binary :all: --require-hashes -r /build/run.lock \
 && /opt/venv/bin/pip uninstall --quiet --yes pip setuptools mypy \
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
COPY deploy/healthy /usr/local/bin/healthy
WORKDIR /opt/rag-mlops
USER 10001:10001
CMD ["python", "-m", "cli", "--help"]

# ---- Airflow and the DAGs ---------------------------------------------------------------------------------
FROM ${AIRFLOW_IMAGE} AS airflow
COPY --chown=airflow:0 pyproject.toml LICENSE /opt/rag-mlops/
COPY requirements/airflow.lock /opt/rag-mlops/requirements/
# Airflow, its providers and what the DAGs import, at the versions the tests ran with.
RUN pip install --no-cache-dir --require-hashes -r /opt/rag-mlops/requirements/airflow.lock
COPY --chown=airflow:0 agent /opt/rag-mlops/agent
COPY --chown=airflow:0 cli /opt/rag-mlops/cli
COPY --chown=airflow:0 dags /opt/rag-mlops/dags
COPY --chown=airflow:0 deploy/airflow /opt/rag-mlops/deploy/airflow
COPY --chown=airflow:0 mlops /opt/rag-mlops/mlops
COPY deploy/healthy /usr/local/bin/healthy
ENV PYTHONPATH=/opt/rag-mlops
