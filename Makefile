# Everything runs from .venv, which `make install` makes and keeps up to date.
PYTHON ?= $(shell scripts/find-python)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: help install demo test check style lint types imports test-zfs test-interop bench bench-profile simulate-faults simulate-mutants first-years clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/bin/python:
	@scripts/make-venv "$(PYTHON)" $(VENV)

$(STAMP): $(VENV)/bin/python pyproject.toml
	@echo "installing zrepl-trio and what it needs into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(DEV_STAMP): $(STAMP)
	@$(BIN)/python scripts/install-dev-group.py
	@touch $@

install: $(STAMP) ## make .venv and install zrepl-trio into it

demo: $(STAMP) ## two daemons replicate over real OpenSSH on emulated pools
	@$(BIN)/zrepl-trio demo

test: $(DEV_STAMP) ## run the tests (no ZFS, no root needed)
	$(BIN)/python -m pytest -q -n auto

style: $(DEV_STAMP)
	$(BIN)/ruff format --check .

# what ruff has no rule for: yields in nurseries, swallowed cancels, unshielded clean-up
ASYNC_RULES := ASYNC100,ASYNC101,ASYNC102,ASYNC103,ASYNC104,ASYNC106,ASYNC112,ASYNC113,ASYNC118

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	@$(BIN)/flake8-async --enable=$(ASYNC_RULES) $(shell find zrepl_trio -name '*.py' ! -name '*_pb2.py')

types: $(DEV_STAMP)
	$(BIN)/mypy

imports: $(DEV_STAMP)
	$(BIN)/lint-imports

check: style lint types imports test ## all that CI runs, real ZFS aside

test-zfs: $(DEV_STAMP) ## the same suites on real OpenZFS, in a virtual machine
	scripts/test-zfs

test-interop: $(DEV_STAMP) ## against a real zrepl 0.7.0: make test-interop ZREPL=/path/to/zrepl
	ZREPL="$(ZREPL)" $(BIN)/python -m pytest -q -rs -m interop tests/interop

SEEDS ?= 300
simulate-faults: $(DEV_STAMP) ## run so many seeds (SEEDS=300) of simulated hosts with faults
	$(BIN)/python -m tests.hunt 1 $(SEEDS)

simulate-mutants: $(DEV_STAMP) ## build known bugs in again, and see which seed finds each
	$(BIN)/python -m tests.hunt.mutants

bench: $(DEV_STAMP) ## the figures of docs/performance.md, as ratios of one run
	$(BIN)/python -m benches

bench-profile: $(DEV_STAMP) ## which functions a simulation spends its time in
	$(BIN)/python -m benches.simulate_stage 3 direct profile

first-years: $(DEV_STAMP) ## run the simulations of docs/first-year.md, and put there what they show
	$(BIN)/python scripts/first-years.py

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
