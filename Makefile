# Everything a person does here is a target of this file; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
DISTRIBUTIONS := shared gateway qkd-runner mrs-publisher deploy/native deploy/testbed/mrs
SOURCES := $(DISTRIBUTIONS) tests examples

.PHONY: help install lint test-fast

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed  ## make the virtual environment with every service in it

$(VENV)/installed: constraints.txt requirements-dev.txt $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
	@echo "== virtual environment in $(VENV) (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off \
		-c constraints.txt -r requirements-dev.txt $(addprefix -e ,$(addprefix ./,$(DISTRIBUTIONS)))
	@touch $@

lint: install  ## style and types
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy $(SOURCES)

test-fast: install  ## the unit tests: no broker, no database, no Docker
	@$(BIN)/python -m pytest -q -n 2 tests/unit
