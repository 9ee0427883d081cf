# Everything a person does here is a target of this file; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(BIN)/python -m qslice_native
PYTHON ?= python3
# More options for pytest, e.g. `make test PYTEST_ARGS='-k ledger -x'`.
PYTEST_ARGS ?=
# Measures of `make bench`, all where empty; options of `make drill`.
ARGS ?=
DISTRIBUTIONS := shared gateway qkd-runner mrs-publisher deploy/native deploy/testbed/mrs deploy/testbed/openstack
SOURCES := $(DISTRIBUTIONS) tests examples

.PHONY: help install demo up down lint test test-fast bench drill testbed-openstack

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed  ## make the virtual environment with every service in it

$(VENV)/installed: constraints.txt requirements-dev.txt $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
	@echo "== virtual environment in $(VENV) (about a minute the first time)"
	@sh deploy/native/make-venv.sh $(VENV) $(PYTHON)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off \
		-c constraints.txt -r requirements-dev.txt $(addprefix -e ,$(addprefix ./,$(DISTRIBUTIONS)))
	@touch $@

demo: up  ## set up what is missing, start everything, run the main job, show its result
	@. .run/env && $(BIN)/python examples/demo.py

up: install  ## start qslice with a RabbitMQ, PostgreSQL and Docker engine, installing what is missing
	@$(NATIVE) serve demo

down: install  ## stop all that was started from this checkout, and nothing else
	@$(NATIVE) down

lint: install  ## style and types
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy $(SOURCES)

# The tests' broker and database stop at the end, whatever the end is; the exit code is pytest's.
test: install  ## every test, with a real RabbitMQ, PostgreSQL and Docker engine
	@trap '$(NATIVE) down tests' EXIT; \
		$(NATIVE) up tests && \
		$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS) \
			tests/unit tests/integration tests/acceptance

test-fast: install  ## the unit tests: no broker, no database, no Docker
	@$(BIN)/python -m pytest -q -n 2 tests/unit

# The tests' broker and database are the ones to measure on; fsync is on for both of a pair or none.
bench: install  ## measure against peers in the same run, e.g. make bench ARGS='latency:samples=200 life'
	@trap '$(NATIVE) down tests' EXIT; \
		$(NATIVE) up tests && $(BIN)/python -m tests.benchmarks $(ARGS)

# On a broker and a database of its own, which are gone at the end, however it ends.
drill: install  ## kill parts of a working system at random and count, e.g. make drill ARGS='--seed 7'
	@trap '$(NATIVE) down drill' EXIT; $(BIN)/python -m tests.drills $(ARGS)

testbed-openstack: install  ## a real OpenStack without a hypervisor, on 127.0.0.1
	@$(BIN)/python -m qslice_openstack_testbed up
