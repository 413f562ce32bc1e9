# Everything is one command: `make` prints what there is. CI runs `make test`, nothing else.
#
# One profile (release) serves demo, test and bench, so that a fresh machine compiles the tree once: about 20 minutes
# on two cores. See docs/design/0001-one-profile-one-target.md.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/watershed

# Compiled code is kept in the user's cache when CI says so or when it is there already; otherwise in ./target.
# Cargo keys our crates by the path of the checkout, so two checkouts may share the folder.
ifndef CARGO_TARGET_DIR
ifneq ($(strip $(CI))$(wildcard $(CACHE)/target/.),)
CARGO_TARGET_DIR := $(CACHE)/target
else
CARGO_TARGET_DIR := $(CURDIR)/target
endif
endif
export CARGO_TARGET_DIR

CARGO ?= cargo
BIN := $(CARGO_TARGET_DIR)/release
VENV := $(CACHE)/venv
# Tables are read back with another implementation of Delta. `make test WATERSHED_PYTHON=` leaves that out.
WATERSHED_PYTHON ?= $(VENV)/bin/python

.PHONY: help setup setup-test build demo test bench lint check-docs clean

help: ## print this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name what; do printf '  make %-11s %s\n' "$$name" "$$what"; done
	@echo; echo "  compiled code: $(CARGO_TARGET_DIR)"

setup: ## install what a build needs and is missing (Debian, Ubuntu)
	@scripts/setup

setup-test:
	@WATERSHED_PYTHON="$(WATERSHED_PYTHON)" WATERSHED_VENV="$(VENV)" scripts/setup --test

# The console is built when its sources are newer than what was built of them. Without Node the program is built without it.
CONSOLE :=
ifneq ($(wildcard console/package.json),)
CONSOLE := console/dist/index.html
endif

console/dist/index.html: $(shell [ -d console ] && find console -type f -not -path '*/node_modules/*' -not -path 'console/dist/*' -not -path '*/test-results/*')
	@if command -v npm >/dev/null; then scripts/build-console && touch console/dist/index.html; \
	else echo "make: npm is missing, so the program is built without the web console; it needs Node 20 or newer" >&2; fi

build: setup $(CONSOLE) ## compile the program and its console: target/release/watershed
	$(CARGO) build --release -p watershed-cli

demo: build ## simulated transactions through the whole pipeline, for a first look
	@"$(BIN)/watershed" demo $(DEMO)

# In CI what was compiled before is known by content; see scripts/sources.
test: setup-test $(CONSOLE) ## everything CI runs: unit and integration tests, another reader of the lake, the docs' examples
	@scripts/sources check "$(CARGO_TARGET_DIR)"
	$(CARGO) build --release -p watershed-cli
	$(CARGO) test --release --workspace --no-run
	@scripts/sources built "$(CARGO_TARGET_DIR)"
	@if [ -n "$(WATERSHED_PYTHON)" ]; then export WATERSHED_PYTHON="$(WATERSHED_PYTHON)"; else unset WATERSHED_PYTHON; fi; \
	set -x; $(CARGO) test --release --workspace
	scripts/check-docs "$(BIN)/watershed"
	@if [ -n "$(CONSOLE)" ] && command -v chromium >/dev/null; then scripts/test-console "$(BIN)/watershed"; else echo "make: no chromium or no npm, so the console was not clicked through" >&2; fi

check-docs: build ## run the tutorial's commands and compare what they print
	scripts/check-docs "$(BIN)/watershed"

bench: build ## the figures, each against a ceiling measured in the same run (ROWS=4000000, ONLY=postgres,redis)
	$(CARGO) build --release -p watershed-bench
	@"$(BIN)/watershed-bench" "$(BIN)/watershed" $(or $(ROWS),4000000) $(if $(ONLY),--only $(ONLY))

lint: setup ## formatting and clippy; not part of `make test`, for clippy checks the whole tree once more
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets

clean: ## remove compiled code
	$(CARGO) clean
