# Needs Python 3.11 or newer, git and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV), this takes a minute or two"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

.PHONY: demo
demo: $(INSTALLED) ## Run the main job once: a DAG on real Airflow against the emulator
	$(BIN)/python -m dev.demo

.PHONY: airflow
airflow: $(INSTALLED) ## Start Airflow's UI with the emulator and the connection in place (PORT=8080)
	$(BIN)/python -m dev.standalone

.PHONY: emulator
emulator: $(INSTALLED) ## Start the emulator alone
	$(BIN)/python -m airflow_provider_mps.emulator

.PHONY: test
test: $(INSTALLED) ## Run every test
	$(BIN)/python -m pytest

IN_ONE_PROCESS := $(addprefix tests/integration/, batch/test_deferred.py batch/test_dry_run.py \
	batch/test_earlier_runs.py batch/test_reading_s3.py batch/test_run.py test_cos.py test_sensor.py \
	test_sensor_outcomes.py test_store_azure.py test_store_gcs.py test_store_s3.py test_storing_faults.py \
	test_storing_refused.py test_storing_together.py)

.PHONY: coverage
coverage: $(INSTALLED) ## Print which branches the tests that run in one process do not reach
	# Not the test whose signals may come while coverage holds a lock of its own, for ever.
	$(BIN)/coverage run -m pytest -q tests/unit tests/fuzz $(IN_ONE_PROCESS) -k "not a_signal_at_any_moment"
	$(BIN)/coverage report

AIRFLOWS ?= 2.11 3.0 3.1 3.2 3.3
PYTHONS ?= 3.11 3.12 3.13

.PHONY: test-matrix
test-matrix: $(INSTALLED) ## Try the wheel on every Airflow and Python that is here (AIRFLOWS="2.11 3.3" PYTHONS=3.11)
	$(BIN)/python -m dev.matrix --airflow $(AIRFLOWS) --python $(PYTHONS)

.PHONY: lint
lint: $(INSTALLED) ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(INSTALLED) ## Check types
	$(BIN)/mypy

$(VENV)/.installed-docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

.PHONY: docs
docs: $(VENV)/.installed-docs ## Build the pages of docs/ as a site in build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: constraints
constraints: $(INSTALLED) ## Renew constraints.txt with today's newest versions
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url --no-annotate \
		--no-header --extra dev --extra docs --extra scaling pyproject.toml -o constraints.txt
	sed -i '/^-e\|^file:\|@ file:/d' constraints.txt

.PHONY: clean
clean: ## Remove what was made, the virtual environment included
	rm -rf $(VENV) .airflow build dist
