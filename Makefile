# Everything a fresh machine with Python >= 3.11 and make needs: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY ?= PASSIVE

# One environment. What running needs comes first and alone; .venv/.with-NAME adds the packages of an extra.
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.with-dev
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: help venv tools demo deploy-demo test test-fast lint format docs bench wheel clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

venv: $(STAMP) ## make .venv with spikefed in it, and nothing that running does not need

tools: $(TOOLS) ## add what tests, lint and documentation need

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spikefed needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	@echo '== an environment in $(VENV)'
	@$(PYTHON) -m venv $(VENV)

# The library is built before the packages so that its progress is seen; pip then finds it compiled.
$(STAMP): pyproject.toml constraints.txt setup.py $(wildcard src/spikefed/*/native/*) | $(BIN)/python
	@echo '== the native library, for every instruction set (without a C++ compiler spikefed works too, slower)'
	@$(PIP) --quiet setuptools
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@echo '== the packages that running needs; torch is by far the largest'
	@$(PIP) --no-build-isolation -e .
	@touch $@

$(VENV)/.with-%: $(STAMP) tests/requirements.txt
	@echo '== the packages of the extra "$*"'
	@$(PIP) --no-build-isolation -e '.[$*]'
	@test $* != dev || $(PIP) --no-deps -r tests/requirements.txt
	@touch $@

demo: $(STAMP) ## FSD beside FedAvg on the embedded digits; prints the path of a report
	$(BIN)/spikefed compare experiments/fsd-digits.toml experiments/fedavg-digits.toml --out runs/demo --title 'FSD beside FedAvg on digits'

deploy-demo: $(VENV)/.with-deploy ## the same experiment in one process and over a loopback fleet (TLS, node keys), compared bit for bit
	rm -rf runs/deploy-demo
	$(BIN)/python -m spikefed.deploy.loopback experiments/fsd-digits-fleet.toml --out runs/deploy-demo

# A file of tests never goes to two processes, and what takes longest begins first (tests/conftest.py); WORKERS=0: one process.
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=20

test: $(TOOLS) ## all tests, several files at a time (WORKERS=N)
	$(PYTEST)

test-fast: $(TOOLS) ## all tests but the slow ones
	$(PYTEST) -m 'not slow'

lint: $(TOOLS) ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(TOOLS) ## rewrite to the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(TOOLS) ## the documentation site, under site/
	$(BIN)/mkdocs build --strict

bench: $(TOOLS) ## speed beside peers and limits, as JSON under results/bench (BENCH="--quick --data-dir DATA")
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.run $(BENCH)

# What an earlier build left under build/lib would go into the wheel as well.
wheel: $(STAMP) ## a wheel for every Python and processor of this platform, under dist/
	rm -rf build/lib* build/bdist*
	$(BIN)/python -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

clean: ## remove the environment, what was built, and runs
	rm -rf $(VENV) runs build
