# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
# They need Python 3.11 or newer with its venv module, and make. Nothing is compiled.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.9.7
PYTEST_ARGS ?=
# A launch starts dozens of Python processes: without byte code each of them compiles Django anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check bench chaos format clean system-packages

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=$(UV_VERSION)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv sync --quiet --locked --all-extras --compile-bytecode
	@touch $@

demo: $(VENV)/.installed ## Launch the accounting site from 1.0 to 2.0 and roll it back, all on this machine
	@$(BIN)/python demo/run.py

system-packages:
	@sh tests/system-packages.sh

test: $(VENV)/.installed system-packages ## Run all tests (as root on Debian it installs sshd, Chromium and PostgreSQL 15)
	@$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not slow" -n 3 --dist worksteal

check: $(VENV)/.installed ## Lint, format, types, and the layers of the design
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(VENV)/.installed ## Measure, and write bench/results/*.json
	@$(BIN)/python bench/run.py

chaos: $(VENV)/.installed system-packages ## The long fault runs: random kills, each version of PostgreSQL, and what is too slow for `make test`
	@$(BIN)/python -m pytest tests -m slow --timeout 3600 -s

format: $(VENV)/.installed ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## Remove what the targets made (not the virtual environment)
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache
