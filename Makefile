# Two commands: `make run` and `make test`. Both build .venv from constraints.txt first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
ARGS ?=

.PHONY: run test fuzz lint format bench gpu docs clean ui

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info[:2] <= (3, 14), "Python 3.11 to 3.14 is needed, found " + sys.version'
	$(PYTHON) -m venv $(VENV)

# PyPI's torch for Linux brings CUDA along, with which the environment has 5.4 GiB instead of 1.7 (docs/newcomer.md). uv
# asks the driver and takes PyTorch's build for it, or that for CPUs; where it cannot, pip takes what it finds.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
ifeq ($(shell uname -s),Linux)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv \
	&& $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend auto --no-deps --constraint constraints.txt torch \
	|| echo "PyTorch's own builds could not be had: pip takes the torch that it finds, for Linux mostly that with CUDA."
endif
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The embedded default: simulated recordings, no argument and no network needed. `make run ARGS="--epochs 2"`.
run: $(STAMP)
	$(BIN)/python -m mlflow_project run $(ARGS)

# Files of tests go to as many processes as there are cores, four at most.
test: $(DEV_STAMP) lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

# Damaged files, killed grids and a server that fails, as often as asked for, each time others: docs/reliability.md.
# `make fuzz CASES=300 KILLS=5 ARGS="-k predictions"`; what went wrong is kept in fuzz-cases/.
CASES ?= 10000
KILLS ?= 50
fuzz: $(DEV_STAMP)
	seed=$${FUZZ_SEED:-$$($(BIN)/python -c 'import secrets; print(secrets.randbelow(2**32))')}; \
	echo "to repeat: make fuzz CASES=$(CASES) KILLS=$(KILLS) FUZZ_SEED=$$seed"; \
	FUZZ_CASES=$(CASES) FUZZ_KILLS=$(KILLS) FUZZ_SEED=$$seed \
	$(BIN)/python -m pytest tests/fuzz --numprocesses auto --maxprocesses 4 --dist load $(ARGS)

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Speed and memory: benchmarks/results/performance.json and docs/performance.md. `make bench ARGS=--tiny` checks the code.
bench: $(DEV_STAMP)
	$(BIN)/python benchmarks/performance.py $(ARGS)

# For a machine with a GPU: docs/gpu.md and benchmarks/results/gpu.json. `make gpu ARGS=--tiny` checks the code on a CPU.
gpu: $(DEV_STAMP)
	$(BIN)/python benchmarks/gpu.py $(ARGS)

ui: $(STAMP)
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
