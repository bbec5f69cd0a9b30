# Only relative paths are used here, so that every target works in a checkout whose path contains blanks.
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RELEASE_TOOLS := .dev/release/.installed
PACKAGES := libs/common libs/devstack services/scheduler services/notifier services/maintenance

.DEFAULT_GOAL := help
.PHONY: help setup demo down test test-unit test-stack chaos bench check audit release clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Make .venv with all packages and the tools for tests and checks
$(INSTALLED): constraints.txt requirements/dev.txt $(PACKAGES:=/pyproject.toml)
	@sh libs/devstack/make-venv $(VENV)
	@echo "Installing the packages into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-r requirements/dev.txt $(PACKAGES:%=-e ./%)
	@touch $@

demo: $(INSTALLED) ## Run everything with demo data, show the mails, and keep it running
	@$(BIN)/python -m taskbell_devstack demo

down: ## Stop exactly what `make demo` started
	@test ! -x $(BIN)/python || $(BIN)/python -m taskbell_devstack down

test: $(INSTALLED) $(RELEASE_TOOLS) ## Run all tests, on real servers
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-unit: $(INSTALLED) $(RELEASE_TOOLS) ## Run the tests that need no servers
	@$(BIN)/python -m pytest tests/unit tests/contract

test-stack: $(INSTALLED) ## Run and test the compose stack; needs a Docker engine
	@$(BIN)/python -m pytest --timeout 1800 tests/stack tests/e2e/test_attackers.py

chaos: export CHAOS = full
chaos: $(INSTALLED) ## Attack the guarantee at full size; SEED=… ROUNDS=… repeat a run
	@seed="$(SEED)"; export SEED="$${seed:-$$(shuf -i 0-2147483647 -n 1)}" ROUNDS="$(ROUNDS)"; failed=0; \
	$(BIN)/python -m pytest --timeout 900 -m "not alone" \
		--numprocesses 4 --dist loadfile --no-loadscope-reorder tests/chaos || failed=$$?; \
	$(BIN)/python -m pytest --timeout 900 -m alone tests/chaos || failed=$$?; \
	exit $$failed

bench: $(INSTALLED) ## Measure speed and memory, under 10 minutes; docs/performance.md explains the figures
	@$(BIN)/python -m benchmarks all --json .dev/bench.json

check: $(INSTALLED) ## Run ruff, mypy and import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports

$(RELEASE_TOOLS): requirements/release.txt
	@sh libs/devstack/make-venv .dev/release
	@echo "Installing the tools for releases into .dev/release, by hash"
	@.dev/release/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary :all: -r requirements/release.txt
	@touch $@

audit: $(RELEASE_TOOLS) ## Look for published weaknesses in all pinned packages
	@.dev/release/bin/python tools/audit

release: $(RELEASE_TOOLS) ## Build wheels, SBOM and provenance of this commit into dist/
	@.dev/release/bin/python tools/release

clean: ## Stop what runs; delete its data, .venv and all caches
	@test ! -x $(BIN)/python || $(BIN)/python -m taskbell_devstack down --remove-data
	@test ! -d .dev/benchmarks || $(BIN)/python -m benchmarks --clean
	@rm -rf $(VENV) .dev .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
