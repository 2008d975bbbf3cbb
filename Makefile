# make demo   install what the demo needs, train on real data, open the page (SMOKE=1: bounded, one JSON line)
# make test   install what the tests need, lint, run the suite
# make chaos  kill, restart and take away everything at random for MINUTES=5 (SEED=1), then compare with the log
#
# Each makes .venv first; a second run installs nothing. PYTHON=... picks another interpreter (3.11 to 3.13).

VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
CHAOS_ARGS ?=
MINUTES ?= 5
SEED ?= 1

# The first interpreter that is new enough and can make a virtual environment (Debian splits ensurepip off).
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(SUITABLE)' >/dev/null 2>&1 && { command -v $$p; break; }; done)

.PHONY: help demo test chaos lint format install-demo install-test clean
.DELETE_ON_ERROR:

help:
	@sed -n '1,/^$$/s/^#[ ]\{0,1\}//p' Makefile

demo: install-demo
	@$(BIN)/modiste demo $(if $(filter-out 0,$(SMOKE)),--smoke --json)

test: install-test lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

chaos: install-test
	@$(BIN)/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES) $(CHAOS_ARGS)

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install-test
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

install-demo: $(VENV)/.installed-demo
install-test: $(VENV)/.installed-test

# The test extra contains the demo extra, so one after the other installs nothing twice.
# All that pip says goes to stderr: stdout belongs to the command that follows.
$(VENV)/.installed-%: pyproject.toml | $(VENV)/pyvenv.cfg
	@if [ $* = demo ] && [ $(VENV)/.installed-test -nt pyproject.toml ]; then exit 0; fi; \
	echo "installing modiste[$*] into $(VENV) (once; a few minutes)" >&2; \
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[$*]' >&2
	@touch $@

$(VENV)/pyvenv.cfg:
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c '$(SUITABLE)' 2>/dev/null; then \
	echo "error: Modiste needs Python 3.11, 3.12 or 3.13 with the venv module (given: PYTHON='$(PYTHON)')." >&2; \
	echo "Tried python3, python3.13, python3.12, python3.11, python. Install one (Debian: python3 python3-venv)," >&2; \
	echo "or name it: make $(or $(firstword $(MAKECMDGOALS)),demo) PYTHON=/path/to/python3.12" >&2; \
	exit 2; fi
	@echo "making $(VENV) with $(PYTHON)" >&2
	@"$(PYTHON)" -m venv $(VENV) >&2

clean:
	rm -rf $(VENV) .modiste build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
