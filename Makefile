# One door for people and for CI. `make` alone lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test check bench fuzz fmt setup setup-test demo

# Flags for the server: make run ARGS="--announce 203.0.113.7"
ARGS ?=
# How long `make fuzz` gives each target.
FUZZ_SECS ?= 60

demo_sources := $(shell find web-demo -type f -not -path '*/node_modules/*' -not -path '*/dist/*')
# npm writes this file when it is done, so it tells whether the packages are those of the lock file.
installed := node_modules/.package-lock.json
npm_ci := npm ci --no-audit --no-fund --loglevel=error

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup demo ## Install what is missing, build everything, run the server
	cargo run --release -- $(ARGS)

test: setup-test demo tests/browser/$(installed) ## Run every test, in real browsers too
	cargo test
	npm test --prefix tests/browser

check: setup web-demo/$(installed) tests/browser/$(installed) ## Run what CI runs before the tests: format, lints, docs
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
	if cargo deny --version >/dev/null 2>&1; \
	  then cargo deny check bans licenses sources; \
	  else echo "check: cargo-deny is not installed, so dependencies are not checked (cargo install cargo-deny)"; fi
	npm run check --prefix web-demo
	npm run check --prefix tests/browser

bench: setup ## Run the benchmarks
	cargo bench

fuzz: setup ## Run every fuzzer for FUZZ_SECS seconds
	cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked
	for target in $$(cargo fuzz list); do \
	  mkdir -p fuzz/grown/$$target; \
	  cargo fuzz run --sanitizer none $$target fuzz/grown/$$target fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECS) -max_len=4096; \
	done

fmt: setup web-demo/$(installed) tests/browser/$(installed) ## Format all sources
	cargo fmt
	npm run format --prefix web-demo
	npm run format --prefix tests/browser

setup:
	@scripts/setup.sh run

setup-test:
	@scripts/setup.sh test

demo: web-demo/dist/index.html

# Node comes with the set-up, so that goes first; it does not make anything newer by itself.
web-demo/$(installed): web-demo/package-lock.json | setup
	cd web-demo && $(npm_ci)
	@touch $@

tests/browser/$(installed): tests/browser/package-lock.json | setup
	cd tests/browser && $(npm_ci)
	@touch $@

web-demo/dist/index.html: web-demo/$(installed) $(demo_sources)
	npm run build --prefix web-demo
	@touch $@
