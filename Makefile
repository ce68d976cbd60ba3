# `make demo` and `make test` do all their set-up in .venv; a second call is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# A process a core, each with one thread: tests mostly wait for programs that they start.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile
MUTANTS_ARGS ?=

.PHONY: demo test test-demo lint types reference backbones mutants kernels-report clean

demo: $(VENV)/.ready
	$(BIN)/c4c demo --out c4c-demo

# All tests but the whole demo, which takes as long as a demo: make test-demo.
test: $(VENV)/.ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests $(PARALLEL) -m "not demo" $(PYTEST_ARGS)

test-demo: $(VENV)/.ready-dev
	$(BIN)/python -m pytest tests/test_demo.py $(PYTEST_ARGS)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	$(BIN)/python -m mypy

reference: $(VENV)/.ready-dev
	$(BIN)/python .ci/reference.py > docs/reference/commands.md

# Every name that open_clip knows, a line each; minutes.
backbones: $(VENV)/.ready-dev
	$(BIN)/python .ci/backbones.py --write

# Within an hour on two cores; stopped, the same command goes on.
mutants: $(VENV)/.ready-dev
	$(BIN)/python tests/mutants --out docs/lab $(MUTANTS_ARGS)

kernels-report: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/kernels_report.py

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "c4c needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

NATIVE := $(wildcard kernels/csrc/*)

$(VENV)/.ready: setup.py pyproject.toml $(NATIVE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.ready-dev: setup.py pyproject.toml $(NATIVE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.ready

clean:
	rm -rf build c4c-demo
