# Every way to work on Tallyman. `make` alone lists them.

PYTHON ?= python3
UV ?= uv
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The packages that pyproject.toml layers, and the two that nothing may import.
PACKAGES := adapters benchmarks domain migrations tasks tests worker

# What a shell happens to export must not change what is built or tested.
unexport PYTHONHOME PYTHONPATH PYTHONSTARTUP VIRTUAL_ENV
unexport PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_ROOT PIP_TARGET UV_SYSTEM_PYTHON
unexport MYPYPATH PYTEST_ADDOPTS PYTEST_PLUGINS PYTEST_DISABLE_PLUGIN_AUTOLOAD
unexport CELERY_APP CELERY_BROKER_URL CELERY_CONFIG_MODULE CELERY_LOADER CELERY_RESULT_BACKEND
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Tests and checks bring their own servers: never the ones of whoever runs them.
OWN_SERVERS := env -u TALLYMAN_DATABASE_URL -u TALLYMAN_BROKER_URL

.DEFAULT_GOAL := help

.PHONY: help
help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(READY) ## show the whole journey of some orders, servers included
	$(BIN)/tallyman demo

.PHONY: up
up: $(READY) ## run servers, workers, relay, beat and Flower until Ctrl-C
	$(BIN)/tallyman up

.PHONY: test
test: $(READY) ## run the tests; ARGS="-k backorder" picks some
	$(OWN_SERVERS) $(BIN)/pytest --numprocesses=auto --maxprocesses=4 $(ARGS)

.PHONY: check
check: lint types check-migrations test ## everything a reviewer would check: lint, types, migrations, tests

.PHONY: lint
lint: check-format check-style check-imports ## check the format, ruff's rules and the import contracts

.PHONY: types
types: $(READY) ## check the types with mypy
	$(BIN)/mypy

.PHONY: migrate
migrate: $(READY) ## bring the database to the newest revision
	$(BIN)/tallyman migrate upgrade

.PHONY: migration
migration: $(READY) ## write a revision from the tables: make migration MSG="add a column"
	@test -n "$${MSG:-}" || { echo 'say what it changes: make migration MSG="add a column"' >&2; exit 2; }
	$(BIN)/tallyman migrate revision -m "$$MSG"

.PHONY: bench
bench: $(READY) ## measure against peers and limits, as ratios; ONLY="procrastinate" picks some
	$(OWN_SERVERS) $(BIN)/python -m benchmarks $(if $(ONLY),--only "$(ONLY)") $(ARGS)

.PHONY: bench-growth
bench-growth: $(READY) ## measure with millions of jobs on record, a hot product, 1 to 4 workers
	$(OWN_SERVERS) $(BIN)/python -m benchmarks.growth $(ARGS)

.PHONY: bench-memory
bench-memory: $(READY) ## measure memory at rest and after 200,000 jobs, and the time of a start
	$(OWN_SERVERS) $(BIN)/python -m benchmarks.memory $(ARGS)

.PHONY: bench-scaling
bench-scaling: $(READY) ## measure what a job costs, and model what 10, 100 and 1,000 times as many need
	$(OWN_SERVERS) $(BIN)/python -m benchmarks.scaling $(ARGS)

.PHONY: bench-observing
bench-observing: $(READY) ## measure what events, metrics, logs and traces cost
	$(OWN_SERVERS) $(BIN)/python -m benchmarks.observing $(ARGS)

.PHONY: beside-celery
beside-celery: $(READY) ## kill -9 stock Celery and Tallyman under load; count what is lost and doubled
	$(BIN)/python -m benchmarks.deaths $(ARGS)

.PHONY: chaos
chaos: $(READY) ## break everything under load and judge it, for 15 minutes; SEED=7 runs that seed alone
	$(OWN_SERVERS) $(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: bench-import
bench-import: $(READY) ## measure imports beside two COPYs and the textbook
	$(BIN)/python -m benchmarks.imports $(ARGS)

.PHONY: clean
clean: ## stop the embedded servers; remove them, the environment and all caches
	@if test -x $(BIN)/tallyman; then $(BIN)/tallyman down --remove-data || echo 'tallyman down failed: a server may still run' >&2; fi
	rm -rf $(VENV) .tallyman .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name .git -prune -o -name __pycache__ -type d -exec rm -rf {} +

.PHONY: lock
lock: ## resolve the requirements again with uv; ARGS=--upgrade takes newer versions
	@command -v $(UV) >/dev/null || { echo 'make lock needs uv on PATH, or UV=/path/to/uv' >&2; exit 1; }
	$(COMPILE) pyproject.toml --group dev --output-file requirements.txt $(ARGS)
	$(COMPILE) pyproject.toml --constraints requirements.txt --output-file requirements-runtime.txt $(ARGS)
	$(COMPILE) --group build --constraints requirements.txt --output-file requirements-build.txt $(ARGS)

COMPILE = $(UV) pip compile --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-header --no-emit-index-url --no-emit-find-links

# The steps of lint and check, each by itself for whoever reads its output.

.PHONY: check-format
check-format: $(READY)
	$(BIN)/ruff format --check

.PHONY: check-style
check-style: $(READY)
	$(BIN)/ruff check

.PHONY: check-imports
check-imports: $(READY)
	@for found in */__init__.py; do \
		case " $(PACKAGES) " in *" $${found%/*} "*) ;; *) \
			echo "$${found%/*}/ is in no layer: name it in pyproject.toml's contracts and in PACKAGES" >&2; \
			exit 1;; \
		esac; \
	done
	$(BIN)/lint-imports --no-cache --no-logo

.PHONY: check-migrations
check-migrations: $(READY)
	$(OWN_SERVERS) $(BIN)/tallyman migrate check

# The environment: made once, and again when what it is made from changes.

$(READY): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
		echo 'no $(PYTHON) on PATH: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Tallyman needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1): name another with make PYTHON=python3.11" >&2; exit 1; }
	@rm -f $@
	@if command -v $(UV) >/dev/null; then \
		set -ex; \
		$(BIN)/python -c '' 2>/dev/null || $(UV) venv --quiet --clear --no-python-downloads --python "$$(command -v $(PYTHON))" $(VENV); \
		$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.txt; \
		$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
		$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
			echo '$(PYTHON) cannot make an environment with pip: install uv, or python3-venv (Debian, Ubuntu)' >&2; exit 1; }; \
		set -ex; \
		$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }; \
		$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.txt; \
		$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	fi
	@touch $@
