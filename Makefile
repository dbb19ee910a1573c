# MooseNG. `make help` lists what there is; every target sets up what it needs in .venv and native/target.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DIR ?= .mooseng
PROFILE ?= demo
# Cargo's, for the library that Python loads: `dist` is optimised as a whole, `release` is quicker to build again.
NATIVE_PROFILE ?= dist
# A docker provider plugin for tests, used only where PATH has no genuine one.
DOUBLE := tests/infra/pulumi_resource_docker/bin
NATIVE_SOURCES := $(shell find native -path native/target -prune -o \( -name '*.rs' -o -name 'Cargo.*' \) -print) $(wildcard mooseng_py/proto/*.proto)

.PHONY: help demo test test-native test-python soak mutants lint format up down status screenshots bench setup build proto limits monitoring prometheus docker image image-prometheus pulumi demo-docker recording clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## the Python environment in .venv
$(VENV)/.ready: pyproject.toml constraints.txt tools/check-machine
	@tools/check-machine "$(PYTHON)"
	@echo "setting up Python in $(VENV), with the versions of constraints.txt"
	@"$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python tools/requirements.py dev infra > $(VENV)/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r $(VENV)/requirements.txt
	@touch $@

build: $(VENV)/.built ## the native core, built into the environment
$(VENV)/.built: $(VENV)/.ready $(NATIVE_SOURCES) native/include/mooseng.h
	@tools/check-machine "$(PYTHON)"
	@echo "building the native core: some minutes the first time (log: $(VENV)/build.log)"
	@source $(BIN)/activate && maturin develop --profile $(NATIVE_PROFILE) --locked > $(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }
	@touch $@

demo: build ## nine nodes, real files, failures, nothing lost: the demonstration
	$(BIN)/python -m mooseng_py.demo

demo-docker: build docker pulumi image ## the same demonstration with containers, made by `pulumi up`
	$(BIN)/python -m mooseng_py.demo --containers --double $(DOUBLE)

recording: build docker pulumi image ## record `make demo-docker` in docs/images, as a cast and as a picture that moves
	$(BIN)/python tools/record_terminal.py docs/images/demo-docker.cast "make demo-docker" \
		$(BIN)/python -m mooseng_py.demo --containers --double $(DOUBLE)
	$(BIN)/python tools/render_cast.py docs/images/demo-docker.cast docs/images/demo-docker.svg

test: test-native test-python ## all tests, native and Python

test-native: $(VENV)/.ready
	@tools/check-machine "$(PYTHON)"
	cd native && cargo test --release --locked --workspace --quiet

test-python: build
	$(BIN)/python -m pytest tests benchmarks

soak: build ## long campaigns of faults that `make test` leaves out
	cd native && cargo run --release --locked --quiet -p mooseng-sim -- --minutes 60
	$(BIN)/python tests/mutants/run.py --baseline
	$(BIN)/python -m pytest tests -m soak

mutants: build ## break one rule at a time; the tests must notice each (tests/mutants)
	$(BIN)/python tests/mutants/run.py

lint: build ## ruff, mypy --strict, rustfmt, clippy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd native && cargo fmt --all --check
	cd native && cargo clippy --release --locked --workspace --all-targets --quiet -- -D warnings

format: $(VENV)/.ready ## rewrite the sources in the project's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cd native && cargo fmt --all

proto: $(VENV)/.ready ## generate the Python messages from the .proto files
	$(BIN)/python -m mooseng_py.proto.generate

limits: build ## generate the bounds of the settings from the native library
	$(BIN)/python -m mooseng_py.native.generate

monitoring: $(VENV)/.ready ## generate dashboards, alert rules and docs/metrics.md from the metrics registry
	$(BIN)/python -m mooseng_py.observe.monitoring.generate

prometheus: ## a Prometheus for the tests, where none is on PATH: Debian's, unpacked into .bin
	@tools/get-prometheus

up: build ## start a cluster that stays, with its dashboard: make up [PROFILE=demo] [DIR=.mooseng]
	$(BIN)/mooseng local up --profile $(PROFILE) --dir $(DIR) --dashboard

status: build ## the state of the cluster in DIR
	$(BIN)/mooseng local status --dir $(DIR)

down: build ## stop the cluster in DIR
	$(BIN)/mooseng local down --dir $(DIR)

docker: ## a Docker engine, where none answers
	tools/start-docker

image: $(VENV)/.ready ## the Docker image of all nodes; prints its id
	@tools/build-image

image-prometheus: ## an image of Prometheus from Debian's package, for stack ci; prints its id
	@tools/build-prometheus-image

pulumi: ## the Pulumi CLI and its Python host in .bin, where none is on PATH
	tools/build-pulumi

screenshots: build ## take the pictures of docs/dashboard.md anew, with Chromium
	MOOSENG_TEST_SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/dashboard/test_browser.py

bench: build ## every benchmark at full size; results in benchmarks/results
	mkdir -p benchmarks/results
	$(BIN)/python -m pytest benchmarks --full --benchmark-json=benchmarks/results/latest.json

clean: ## remove what was built
	rm -rf $(VENV) .bin native/target mooseng_py/native/_lib .pytest_cache .mypy_cache .ruff_cache .hypothesis
