# Everything from a clean checkout: `make demo` to see it, `make test` to check it.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= digits.db
BIN := $(VENV)/bin
# Strict: what is imported is what pyproject.toml packages, file by file.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=strict
SOURCES := pyproject.toml $(wildcard src/nearsql/*.py)

.PHONY: demo test lint docs docs-check browser-tests datasette-1.0 compat clean

demo: $(VENV)/core.installed
	$(BIN)/nearsql demo $(DEMO)

test: $(VENV)/test.installed
	$(BIN)/python -m pytest -n auto --dist loadfile

# The strict install links file by file: renewed first, so that new files are checked, too.
lint: $(VENV)/test.installed
	$(INSTALL) --no-deps -e .
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/test.installed
	$(BIN)/python -m docs.generate

docs-check: $(VENV)/test.installed
	$(BIN)/python -m docs.generate --check

# The other Datasette line, in its own environment, from the wheel that users get.
DATASETTE_1_0 := 1.0a41
datasette-1.0: $(VENV)/test.installed
	rm -rf dist && $(BIN)/python -m build --quiet --outdir dist
	$(PYTHON) -m venv $(VENV)-datasette-1.0
	$(VENV)-datasette-1.0/bin/python -m pip install --quiet --disable-pip-version-check \
		"datasette==$(DATASETTE_1_0)" "$$(ls dist/*.whl)[test]"
	$(VENV)-datasette-1.0/bin/python -m pytest -n auto --dist loadfile tests/browser tests/integration/test_datasette_*.py

# The complete suites of sqlite-utils, Datasette and CPython's sqlite3 on our connection. Takes a while.
compat: $(VENV)/test.installed
	for suite in sqlite-utils datasette-0.65 datasette-1.0 cpython; do \
		$(BIN)/python -m tests.compat.run $$suite || exit 1; done

clean:
	rm -rf $(VENV) $(VENV)-datasette-1.0 build dist $(DEMO) $(DEMO)-wal $(DEMO)-shm

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.installed: $(SOURCES) | $(VENV)/bin/python
	@echo "Installing nearsql into $(VENV) (about a minute)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/test.installed: $(SOURCES) | $(VENV)/bin/python
	@echo "Installing nearsql, its test tools and torch (several GB) into $(VENV)"
	$(INSTALL) -e ".[test,vision]"
	@touch $@ $(VENV)/core.installed
