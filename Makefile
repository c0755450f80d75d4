# `make help` lists the targets. Each sets up .venv first, again only when the dependencies changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The theme advertises its successor at every build.
DOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
# One more than two cores: many tests wait for a process or a screen. Slow ones start first, so that all end together.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo check test quick types lint format docs results torture fuzz cuda hooks clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP) ## distil a small dataset and show the images
	$(BIN)/tesla demo

check: $(STAMP) format types quick ## the quick check: format, lint, types, the tests not marked slow
	$(BIN)/lint-imports

test: $(STAMP) lint ## everything: lint, types, import contracts, documentation, all tests
	$(PYTEST)
	$(PYTEST) --device sim tests/device

quick: $(STAMP) ## the tests not marked slow; lists those that take over 1.5 seconds, to be marked
	$(PYTEST) -m 'not slow' --durations=10 --durations-min=1.5

types: $(STAMP) ## mypy; after the first time only what changed
	$(BIN)/mypy

lint: $(STAMP) ## format, lint, types, import contracts and documentation, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(DOCS)

format: $(STAMP) ## fix format and lint in place
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP) ## build the documentation in site/
	$(DOCS)
	@echo "Open site/index.html"

results: $(STAMP) ## rebuild the tables and plots of README and docs from the runs in docs/data (docs/results.md)
	$(BIN)/python -m benchmarks.results tables

torture: $(STAMP) ## break every writing command, from inside and (with strace) from outside (docs/reliability.md)
	$(BIN)/python -m tests.torture --kills 240 --clock 40 --errors 80 --power 60 --json torture.json \
		$(if $(shell command -v strace),--outside 500)
	$(BIN)/python -m tests.supervision --kinds workers torchrun

MINUTES ?= 15
fuzz: $(STAMP) ## new inputs for every reader of untrusted files; MINUTES=60 for longer
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

cuda: $(STAMP) ## check tesla on this machine's GPU, in minutes; writes benchmarks/cuda-results.md
	$(BIN)/python -m benchmarks.cuda

hooks: $(STAMP) ## run ruff on what is committed, in every commit from now on
	$(BIN)/pre-commit install

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tesla needs Python 3.11 or newer; try: make PYTHON=python3.12 demo")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean: ## remove .venv, caches and what was built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build site *.egg-info
