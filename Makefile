# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-system check lint types fix reference bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Make the virtual environment with everything in it

$(READY): pyproject.toml tools/setup.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" sh tools/setup.sh
	@touch $(READY)

demo: $(READY) ## Run agents on real documents, kill a worker, see them resume
	$(BIN)/holdfast demo $(DOCS)

test: $(READY) ## Run the whole suite on the bundled PostgreSQL and on the system's
	$(BIN)/python -m pytest -n $(JOBS) tests
	$(MAKE) --no-print-directory test-system

test-system: $(READY) ## Run the database tests on the system's PostgreSQL, if there is one
	sh tools/test_system.sh $(BIN)/python $(JOBS)

check: $(READY) lint types ## Lint, types, layers and the fast tests: under two minutes
	$(BIN)/python tools/generate_reference.py --check
	$(BIN)/python -m pytest -n $(JOBS) -q -m "not slow" tests/unit tests/db tests/public_api tests/testkit

lint: $(READY) ## Formatting, lint, layers
	$(BIN)/ruff format --check src tests tools examples bench
	$(BIN)/ruff check src tests tools examples bench
	$(BIN)/lint-imports

types: $(READY) ## mypy --strict on the package
	$(BIN)/mypy

fix: $(READY) ## Format and mend what can be mended automatically
	$(BIN)/ruff check --fix src tests tools examples bench
	$(BIN)/ruff format src tests tools examples bench

reference: $(READY) ## Generate docs/reference from the code
	$(BIN)/python tools/generate_reference.py

bench: $(READY) ## Measure beside peers and bare SQL, in one run; BENCH=--quick for four minutes
	sh bench/setup_peers.sh $(BIN)/python
	$(BIN)/python -m bench $(BENCH)

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .bench
