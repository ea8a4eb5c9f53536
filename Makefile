# What each target needs is set up by itself, once: scripts/setup says what it does and does
# nothing twice. ARGS goes to pytest: make scenarios ARGS="-n 2 -k vlan"

SHELL := /bin/bash
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help python system image scenarios test lint bench

help:
	@echo 'make scenarios  run the scenarios: real switches, real frames (ARGS="-n 2 -k vlan")'
	@echo 'make test       run the tests of the harness itself (ARGS="-k images")'
	@echo 'make lint       ruff, mypy --strict, import-linter'
	@echo 'make bench      time the harness beside its peers'
	@echo
	@echo 'Each sets up what it needs: a Python environment in .venv, Debian packages when run by'
	@echo 'root, a node image in the cache. $(BIN)/ovs-harness doctor says what this machine can run.'

python:
	@scripts/setup python

system:
	@scripts/setup system

# A run with targets of its own builds the images that it needs by itself.
image: python system
	@$(if $(findstring --target,$(ARGS)),,$(BIN)/ovs-harness image build)

scenarios: image
ifeq ($(shell find scenarios -name '*.py' -print -quit),)
	@echo 'scenarios/ holds no scenario yet'
else
	$(BIN)/pytest scenarios/ $(ARGS)
endif

test: image
	@scripts/setup test
	$(BIN)/pytest tests/ $(ARGS)

lint: python
	$(BIN)/ruff check
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

bench: image
	@scripts/setup bench
	$(BIN)/python -m benchmarks $(ARGS)
