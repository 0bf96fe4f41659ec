# leastaction: make bench and make test set themselves up; make help lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup check test bench smoke table table1 published speed reference perf-check perf-compare perf-baseline perf-faults doctor lock clean clean-all

# commit whose times perf-check and perf-compare compare with; none given: the one before
BASE ?=
# of bench and smoke, such as OPTIONS="--models lnn --seeds 0 1"
OPTIONS ?=
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:
	@echo "make bench      train every model on every system, measure, tabulate (sets itself up; what is finished isn't run again)"
	@echo "make test       pass the tests (sets itself up)"
	@echo "make smoke      the same grid, tiny: every code path, numbers without meaning"
	@echo "make table1     Table 1, measured: what is missing of six seeds on all systems that it needs, beside make bench's runs"
	@echo "make published  published figures beside ours, and the Lagrangian network's recipe part by part"
	@echo "make table      write and show the tables of the last make bench again"
	@echo "make check      lint, formatting, types"
	@echo "make speed      what models and operators cost, against width, batch and sites (results/latest/speed)"
	@echo "make perf-check      compare counts and errors with the committed baseline, times with those of BASE (the commit before)"
	@echo "make perf-compare    times of every benchmark against those of BASE=commit"
	@echo "make perf-baseline   accept what is measured now as the baseline, and say what changes"
	@echo "make doctor     what is wrong with versions, compiler, disk, locks and files, and what to do about it"
	@echo "make faults     kill, fill, corrupt and mislead it: what docs/reliability.md says, measured anew (FAULTS=--short: a part)"
	@echo "make setup      only set up .venv"
	@echo "make reference  run what the committed results of the laptop preset lack, and pack them into results/reference/laptop"
	@echo "make lock       choose versions anew (requirements.lock)"
	@echo "make clean      remove results/latest; make clean-all: cached data and compiled programs too; set-up is undone by removing .venv"

# Made only when whole: .ready is written last, so that an interrupted set-up is done again.
setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "leastaction needs Python 3.11 or newer: install python3, or name one with make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "leastaction needs Python 3.11 or newer, and $(PYTHON) is older: name another with make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "leastaction needs Python's venv: on Debian and Ubuntu, apt install python3-venv" >&2; exit 2; }
	@echo "setting up $(VENV) (once)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -m pip install --quiet uv 2>/dev/null; then \
		$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock && \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .; \
	else \
		$(BIN)/python -m pip install --quiet -r requirements.lock && \
		$(BIN)/python -m pip install --quiet --no-deps -e .; \
	fi
	@touch $(READY)

bench: $(READY)
	@$(BIN)/python -m bench run laptop $(OPTIONS)

smoke: $(READY)
	@$(BIN)/python -m bench run smoke $(OPTIONS)

table: $(READY)
	@$(BIN)/python -m bench table

table1: $(READY)
	@$(BIN)/python -m bench table1 laptop $(OPTIONS)

published: $(READY)
	@$(BIN)/python -m bench published laptop $(OPTIONS)

# runs are made in an ignored folder, beginning with those that are committed, and packed into the committed one when all are there
COMMITTED := results/reference/laptop
WORKED := results/latest/reference

reference: $(READY)
	@test ! -e $(COMMITTED)/grid.json || $(BIN)/python -m bench unpack $(COMMITTED) $(WORKED)
	@$(BIN)/python -m bench run laptop --output $(WORKED)
	@$(BIN)/python -m bench table1 laptop --output $(WORKED)
	@$(BIN)/python -m bench published laptop --output $(WORKED)
	@$(BIN)/python -m bench pack $(WORKED) $(COMMITTED) --reference
	@$(BIN)/python -m bench table $(COMMITTED) --document README.md --reference

# tests compile much that they run once: with little optimisation they take a quarter less time
test: $(READY)
	@XLA_FLAGS="$$XLA_FLAGS --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true" $(BIN)/python -m pytest

speed: $(READY)
	@$(BIN)/python -m bench speed

perf-check: $(READY)
	@$(BIN)/python -m bench perf check $(if $(BASE),--base $(BASE))

perf-compare: $(READY)
	@$(BIN)/python -m bench perf compare $(if $(BASE),--base $(BASE))

perf-baseline: $(READY)
	@$(BIN)/python -m bench perf baseline

# kills, fills, corrupts and misleads; FAULTS=--short for a part of each
FAULTS ?=
faults: $(READY)
	@$(BIN)/python -m pytest tests/faults --dist load $(FAULTS)

# injects faults into copies of this checkout: the gate must catch each
perf-faults: $(READY)
	@$(BIN)/python tests/perf/faults.py

doctor: $(READY)
	@$(BIN)/python -m bench doctor

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header --extra test pyproject.toml -o requirements.lock

clean:
	rm -rf results/latest

clean-all: clean
	rm -rf results/cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
