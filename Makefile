# `make demo` and `make test` need git, make and Python 3.11 (name another with PYTHON=...).

PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
RUN := $(BIN)/python -m
INSTALL := $(RUN) pip install --disable-pip-version-check --quiet -c constraints.txt
WORKERS ?= 2

.PHONY: demo test test-slow lint format types imports gallery docs wheel clean

demo: $(VENV)/installed
	$(BIN)/python demo/run.py

test: $(VENV)/installed-dev
	$(RUN) pytest -n $(WORKERS) -m "not slow" $(ARGS)

test-slow: $(VENV)/installed-dev
	$(RUN) pytest -m slow $(ARGS)

lint: $(VENV)/installed-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .

format: $(VENV)/installed-dev
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

types: $(VENV)/installed-dev
	$(RUN) pyright

imports: $(VENV)/installed-dev
	$(BIN)/lint-imports

gallery: $(VENV)/installed-dev
	$(BIN)/python docs/gallery/render.py

docs: gallery
	$(RUN) mkdocs build --strict --quiet

wheel: $(VENV)/installed-dev
	$(RUN) pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) site dist docs/img/gallery .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# The stamps lie inside the environment, so that removing it removes them too.
$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/created
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/created
	$(INSTALL) -e ".[dev,docs]"
	@touch $@ $(VENV)/installed
