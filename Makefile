# Everything a person needs: make demo, make test, make check, make bench.
# Each target makes its own environment under .venv from pinned requirements; nothing else is assumed but Python 3.11+, git, make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps

.PHONY: help demo test check bench env dev clean pins

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/core: requirements/core.txt pyproject.toml setup.py native/drain.c
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else f"streamgauge needs Python 3.11 to 3.13; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements/core.txt
	$(PIP) --editable .
	@touch $@

$(VENV)/dev: $(VENV)/core requirements/dev.txt
	$(PIP) -r requirements/dev.txt
	@touch $@

env: $(VENV)/core  ## only the environment to run streamgauge from this folder
dev: $(VENV)/dev   ## the environment with test and check tools

demo: $(VENV)/core  ## the tests against the built-in simulator, reports written
	@$(BIN)/streamgauge demo

check: $(VENV)/dev  ## style and types
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy

# Tests start the command hundreds of times: its modules are compiled once, whatever the environment says. Two files at a
# time, since most tests wait; those that hold stamps against the truth run by themselves.
test: check  ## style, types, and every test
ifeq ($(ARGS),)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile -m "not alone"
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -m alone
else
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(ARGS)
endif

bench: $(VENV)/dev  ## the measurements behind docs/benchmarks.md (an hour and a half, ARGS=NAME for one; wants a quiet machine)
	$(BIN)/python -m bench $(ARGS)

pins:  ## resolve the pinned requirements again (needs uv)
	bash requirements/pin.sh

clean:  ## remove what these targets made
	rm -rf $(VENV) build dist src/*.egg-info src/streamgauge/*.so .mypy_cache .ruff_cache .hypothesis
