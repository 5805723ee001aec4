# Every target does the set-up it needs (scripts/bootstrap); on Debian or Ubuntu as root it installs what is missing.

SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin

# make molecule SCENARIO=litellm_proxy
SCENARIO ?=
# make demo STORE=1
STORE ?=

.PHONY: help setup demo demo-down test lint unit molecule sanity build docs bench locks requirements-deploy requirements-dev

help: ## Show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 22

demo: ## The whole service in containers on this machine; leaves it running (STORE=1 adds PostgreSQL and Redis)
	@STORE=$(STORE) scripts/demo up

demo-down: ## Remove the demo: containers, network, its secrets
	@scripts/demo down

test: ## Everything CI runs
	@scripts/test-all

setup: ## Get this machine ready: .venv, Docker, what the tests need
	@scripts/bootstrap

lint: ## ansible-lint, actionlint, yamllint, ruff, mypy, shellcheck
	@scripts/bootstrap venv
	@scripts/lint

sanity: ## ansible-test sanity
	@scripts/bootstrap venv
	@scripts/sanity

unit: ## Unit tests of the plugins; docs and specs agree
	@scripts/bootstrap venv
	@$(BIN)/python -m pytest

build: ## Build the collection, install the artifact, load its plays by name
	@scripts/bootstrap venv
	@scripts/build-test

molecule: ## Roles and plays on systemd containers (SCENARIO=name for one)
	@scripts/bootstrap test
	@$(BIN)/python scripts/molecule-run $(SCENARIO)

docs: ## Write the variable tables of the roles' READMEs
	@scripts/bootstrap venv
	@$(BIN)/python scripts/role_docs.py

bench: ## Measure; results go to docs/benchmarks.md
	@scripts/bootstrap test
	@tests/bench/run

locks: ## Compile the requirements of the roles from their .in files (ARGS=--upgrade)
	@scripts/bootstrap venv
	@UV=$(BIN)/uv scripts/lock.sh $(ARGS)

requirements-deploy: ## Lock requirements-deploy.in, what a deploy from CI needs (ARGS=--upgrade)
	@scripts/bootstrap venv
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate --no-emit-index-url \
	  --custom-compile-command "make requirements-deploy" --output-file requirements-deploy.txt $(ARGS) requirements-deploy.in

requirements-dev: ## Lock requirements-dev.in anew
	@scripts/bootstrap venv
	@$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --no-annotate \
	  --custom-compile-command "make requirements-dev" --output-file requirements-dev.txt requirements-dev.in
