# The two commands for a stranger: `make quickstart` and `make test`. Both make .venv when needed.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-system test-gpu lint bench clean

help: ## Say what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/.installed ## Make .venv out of requirements/cpu.txt and requirements/dev.txt

# A change of a lock, or an environment that was never finished, makes it anew.
.venv/.installed: requirements/cpu.txt requirements/dev.txt
	@PYTHON=$(PYTHON) requirements/install.sh .venv

quickstart: setup ## Fetch a model and data, search, prove, register and serve
	@$(BIN)/raytune-ft quickstart

test: setup lint ## Lint, then unit, integration and end-to-end tests
	@status=0; \
	echo "== tests/unit"; \
	$(BIN)/python -m pytest tests/unit -q -n auto --durations=10 || status=1; \
	for suite in integration e2e; do \
		echo "== tests/$$suite"; \
		$(BIN)/python -m pytest tests/$$suite -q --durations=20 || status=1; \
	done; \
	echo "left out: what make test-system and make test-gpu run"; \
	exit $$status

test-system: setup ## Tests that run long or need more than the locks; run before a change is called done
	@$(BIN)/python -m pytest tests/integration tests/e2e -m system -q -rs --durations=10

test-gpu: setup ## Tests that need one GPU, at most ten minutes; without one each says that it is skipped
	@$(BIN)/python -m pytest tests/gpu -q -rs --durations=10

lint: setup ## ruff, mypy --strict and the layering of the folders
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: setup ## Run every script of benchmarks/ (hours); each writes benchmarks/results/<name>.json
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

clean: ## Remove .venv and caches; runs/, registry/ and assets/ stay
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find raytune_ft tests -name __pycache__ -type d -prune -exec rm -rf {} +
