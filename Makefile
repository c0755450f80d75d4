# Two commands for a fresh machine: `make demo` and `make test`. Both set up .venv first (again only when needed).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The theme advertises its successor at every build.
DOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: demo test torture fuzz lint docs format clean

demo: $(STAMP)
	$(BIN)/tesla demo

test: $(STAMP) lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Breaks a small run at every file-system call, at random moments, by refused calls and power cuts (docs/reliability.md).
torture: $(STAMP)
	$(BIN)/python -m tests.torture --kills 240 --json torture.json

# New inputs for every reader of foreign files; `make fuzz MINUTES=60` for longer.
MINUTES ?= 15
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(DOCS)

docs: $(STAMP)
	$(DOCS)
	@echo "Open site/index.html"

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tesla needs Python 3.11 or newer; try: make PYTHON=python3.12 demo")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build site *.egg-info
