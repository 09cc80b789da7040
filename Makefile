# Everything is done through these targets; `make` alone lists them. Needed beforehand: make, and Python with venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Each test process starts a PostgreSQL of its own, so a large machine must not start one per core.
TEST_PROCESSES_MAX ?= 4
PYTEST := $(BIN)/pytest --numprocesses=logical --maxprocesses=$(TEST_PROCESSES_MAX) --dist=loadfile

.DEFAULT_GOAL := help
.PHONY: help setup run test faults coverage bench bench-peers tamper soak planted erasure fuzz lock clean

help: ## List what can be done here
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do printf 'make %-11s %s\n' "$$name" "$$what"; done

setup: $(READY) ## Install everything into .venv, exactly as locked

# The stamp makes the second start cheap: nothing is looked at until one of these files changes.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
# The lock names uv as well, so that even the installer is checked against its hash.
	@sed -n '/^uv==/,/# via/p' requirements.lock > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
# uv is fast, pip knows the mirrors and certificates this machine is configured with: when uv cannot reach the index, pip is asked.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
# Built by the locked hatchling: nothing is downloaded here.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

run: $(READY) ## Start a lived-in example: service, database, campaigns and traffic
	@$(BIN)/ledger demo

test: $(READY) ## Check style, types, layers and behaviour, and that all of the domain is covered
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(PYTEST) --dist=worksteal tests/domain --cov --cov-report=
	$(BIN)/coverage report --fail-under=100
	$(PYTEST) --ignore=tests/domain --ignore=tests/faults

faults: $(READY) ## Kill, freeze, cut off and fill up what the service stands on, and check that nothing is lost
	$(PYTEST) tests/faults

coverage: $(READY) ## Say what tests do not reach, of all packages and in servers under test too; takes twice as long
	$(PYTEST) --cov --cov-config=tests/coverage.toml --cov-report=
	$(BIN)/coverage report --rcfile=tests/coverage.toml --fail-under=95

bench: $(READY) ## Measure decisions, impressions and appends beside the bare parts, and draw pacing; options with ARGS='--only pacing'
	@$(BIN)/python -m tests.bench $(ARGS)

bench-peers: $(READY) build/peers-venv/.ready ## Measure our log beside PyPI's eventsourcing, installed under build/
	@$(BIN)/python -m tests.bench --only peers $(ARGS)

build/peers-venv/.ready: tests/bench/peers.txt
	$(PYTHON) -m venv build/peers-venv
	build/peers-venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/peers.txt
	@touch $@

tamper: $(READY) ## Tamper with a log in every way, a thousand times each, and see that all is found
	@$(BIN)/python -m tests.tamper --cases 1000

soak: $(READY) ## Drive the service against a model, 25,000 steps, then kill it 200 times; options with ARGS='--seed 1'
	@$(BIN)/python -m tests.soak $(ARGS)

planted: $(READY) ## Plant five bugs in a copy of the source, one at a time, and see that tests find each
	@$(BIN)/python -m tests.planted

erasure: $(READY) ## Erase a person's data in a ledger of 100,000 events, and see it gone from everywhere and all proofs verify
	@ERASED_AMONG=100000 $(BIN)/pytest --quiet tests/projections/test_erasure.py

fuzz: $(READY) ## Ask every operation ten times what its description allows, and does not, and see that none fails
	@FUZZED=10 $(BIN)/pytest --quiet tests/api/test_openapi.py -k does_what_it_says

lock: $(READY) ## Write requirements.lock anew from pyproject.toml; newer versions with ARGS=--upgrade
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --universal --group dev --python-version 3.11 \
		$(ARGS) pyproject.toml -o requirements.lock

clean: ## Remove what tools left behind; .venv and the data under .ledger stay
	rm -rf build dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . \( -name .venv -o -name .ledger \) -prune -o -name __pycache__ -prune -exec rm -rf {} +
