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

# Let child processes share compiled bytecode, even if the environment says otherwise.
export PYTHONDONTWRITEBYTECODE :=

# Tests wait more than they compute: three for each of two cores. WORKERS=0 runs them in one process.
# A worker that a hanging test has ended is not replaced: the new one would run the same test.
WORKERS ?= 6
PYTEST := pytest -n $(WORKERS) --max-worker-restart 0 --dist loadgroup --no-loadscope-reorder
SLOW := airflow_standalone or browser or kill or benchmark or slow

.PHONY: test
test: $(INSTALLED) ## Run the quick tests, which need no whole Airflow and no browser: 4 minutes
	$(BIN)/python -m $(PYTEST) -m "not ($(SLOW))"

.PHONY: test-slow
test-slow: $(INSTALLED) ## Run the others: whole Airflows, Chromium, repeated kills, benchmarks
	$(BIN)/python -m $(PYTEST) -m "$(SLOW)"

.PHONY: test-all
test-all: $(INSTALLED) ## Run every test: 13 minutes
	$(BIN)/python -m $(PYTEST)

.PHONY: coverage
coverage: $(INSTALLED) ## Print which branches the tests of `make test` do not reach
	# Without the test that sends signals at any moment: coverage may hold a lock of its own then, and hang.
	$(BIN)/coverage erase
	$(BIN)/coverage run -m $(PYTEST) -q -m "not ($(SLOW))" -k "not a_signal_at_any_moment"
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

AIRFLOWS ?= 2.11 3.0 3.1 3.2 3.3 3.4
PYTHONS ?= 3.11 3.12 3.13 3.14

.PHONY: test-matrix
test-matrix: $(INSTALLED) ## Try the wheel on every Airflow and Python that is here (AIRFLOWS="2.11 3.3" PYTHONS=3.11)
	$(BIN)/python -m dev.matrix --airflow $(AIRFLOWS) --python $(PYTHONS)

.PHONY: lint
lint: $(INSTALLED) ## Check style, format, and which package imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

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
constraints: $(INSTALLED) ## Refresh constraints.txt with today's newest versions
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url --no-annotate \
		--no-header --extra dev --extra docs --extra scaling pyproject.toml -o constraints.txt
	sed -i '/^-e\|^file:\|@ file:/d' constraints.txt

.PHONY: release
release: $(INSTALLED) ## Build and check what is published, in dist; CONTRIBUTING.md has the steps around it
	$(BIN)/python -m dev.release

.PHONY: clean
clean: ## Remove what was made, the virtual environment included
	rm -rf $(VENV) .airflow build dist
