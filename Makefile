# Every target first makes .venv from requirements.lock; nothing here needs root.
#
#   make demo                 the whole path on this machine, under a minute
#   make test                 all tests
#   make check                lint, types, layers, dependencies, spelling
#   make cover                tests with branch coverage
#   make bench [ONLY=ticket]  measurements; ONLY is ticket, large, relay, client or collect
#   make seal-memory [MB=1000]  memory of sealing from 1 MB to MB (10,000; needs 15 GB of disk)
#   make experiments          the studies of docs/experiments with their plots, from their seeds
#   make workload PROFILE=D   replay a national deadline; C, D, F or G, see docs/reference/workload.md
#   make fairness             a greedy filer, a forger, an office behind one address; also ROUNDS, SECONDS
#   make crash [RUNS=200]     kill server and relay in many ways; also SUBJECT, SEED, MINUTES, AT_ONCE, MODE
#   make kills [RUNS=100]     kill a filer's client at random moments; also SEED, AT_ONCE
#   make link                 how soon after sealing a filer on 1 Mbit/s and 300 ms is on time
#   make lock                 requirements.lock from pyproject.toml

# The first of these that is Python 3.11 or newer.
PYTHON ?= $(firstword $(foreach name,python3.11 python3,$(shell $(name) -c \
	'import sys; print("$(name)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests wait for the disk half of their time.
JOBS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 2)
TESTS ?= tests

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check cover bench seal-memory experiments workload crash fairness kills link lock clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	@$(BIN)/python -m tests.e2e.demo

# Tests that start real processes run by themselves: beside others they would measure those.
# (Status 5 says that there are none, which is fine for a part of the tests only.)
test: $(STAMP)
	@$(BIN)/pytest -q -n $(JOBS) $(TESTS)
	@$(BIN)/pytest -q -m e2e $(TESTS) || test $$? -eq 5 -a "$(TESTS)" != tests

check: $(STAMP)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/deptry .
	@$(BIN)/codespell
	@echo "check: all good"

cover: $(STAMP)
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run -m pytest -q -n $(JOBS) tests
	@$(BIN)/coverage run -m pytest -q -m e2e tests
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --include='bistro/crypto/*,bistro/wire/*,bistro/protocol/*'
	@$(BIN)/coverage report

bench: $(STAMP)
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY))

seal-memory: $(STAMP)
	@$(BIN)/python -m tests.bench.seal_memory $(if $(MB),--most-mb $(MB))

experiments: $(STAMP)
	@$(BIN)/python -m tests.experiments

workload: $(STAMP)
	@$(BIN)/python -m tests.workload --profile $(or $(PROFILE),D) \
		$(if $(SCALE),--scale $(SCALE)) $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(SEED),--seed $(SEED)) $(if $(READS),--reads)

crash: $(STAMP)
	@$(BIN)/python -m tests.crash $(if $(RUNS),--runs $(RUNS)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(SEED),--seed $(SEED)) $(if $(AT_ONCE),--jobs $(AT_ONCE)) $(if $(MODE),--mode $(MODE)) \
		$(if $(SUBJECT),--subject $(SUBJECT))

fairness: $(STAMP)
	@$(BIN)/python -m tests.fairness $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

kills: $(STAMP)
	@$(BIN)/python -m tests.kills $(if $(RUNS),--runs $(RUNS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(AT_ONCE),--jobs $(AT_ONCE))

link: $(STAMP)
	@$(BIN)/python -m tests.link

# For those who change dependencies; needs the tool uv. No index is written into the file.
lock:
	@uv pip compile pyproject.toml --extra daemon --extra keyring --extra socks --group dev --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock

clean:
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*

$(STAMP): requirements.lock pyproject.toml $(wildcard bistro/*/*_c/*)
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed" >&2; \
		echo "next: install it, or name it: make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "Preparing $(VENV) with $(PYTHON): only the first time, and when the lock changes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
