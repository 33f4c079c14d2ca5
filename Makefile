# Everything a fresh machine with Python >= 3.11 and make needs: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help venv demo deploy-demo test test-fast lint format docs bench clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

venv: $(STAMP) ## make .venv with spikefed and all tools in it

$(STAMP): pyproject.toml constraints.txt tests/requirements.txt setup.py $(wildcard src/spikefed/*/native/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spikefed needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/requirements.txt
	touch $@

demo: $(STAMP) ## FSD beside FedAvg on the embedded digits; prints the path of a report
	$(BIN)/spikefed compare experiments/fsd-digits.toml experiments/fedavg-digits.toml --out runs/demo --title 'FSD beside FedAvg on digits'

deploy-demo: $(STAMP) ## the same experiment in one process and over a loopback fleet (TLS, node keys), compared bit for bit
	rm -rf runs/deploy-demo
	$(BIN)/python -m spikefed.deploy.loopback experiments/fsd-digits-fleet.toml --out runs/deploy-demo

# A file of tests never goes to two processes, and what takes longest begins first (tests/conftest.py); WORKERS=0: one process.
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=20

test: $(STAMP) ## all tests, several files at a time (WORKERS=N)
	$(PYTEST)

test-fast: $(STAMP) ## all tests but the slow ones
	$(PYTEST) -m 'not slow'

lint: $(STAMP) ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(STAMP) ## rewrite to the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP) ## the documentation site, under site/
	$(BIN)/mkdocs build --strict

bench: $(STAMP) ## speed beside peers and limits, as JSON under results/bench (BENCH="--quick --data-dir DATA")
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.run $(BENCH)

clean: ## remove the environment and runs
	rm -rf $(VENV) runs build
