# `make` lists what there is. Everything builds into one target folder; CARGO_TARGET_DIR moves it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help tools format lint licences advisories docs unit test prove torture bench

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | column -t -s "$$(printf '\t')"

tools: ## Install what the tests need and is missing
	@.ci/tools test

format: ## Check the format
	cargo fmt --check

lint: ## Check the lints; a warning is an error
	cargo clippy --locked --all-targets --quiet -- -D warnings

licences: ## Check dependencies: licences, bans, sources
	cargo deny --locked check --hide-inclusion-graph licenses bans sources

advisories: ## Check dependencies for known faults, where the list of them can be reached
	@if cargo deny --locked fetch db >/dev/null 2>&1; then \
	    cargo deny --locked check --disable-fetch --hide-inclusion-graph advisories; \
	else \
	    echo; \
	    echo "*** ADVISORIES WERE NOT CHECKED: their database cannot be reached from here. ***"; \
	    echo; \
	fi

docs: ## Check the documentation: links, and that its examples run
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --locked --no-deps --document-private-items --quiet
	cargo test --locked --doc --quiet

unit: ## Run the unit and property tests only
	cargo nextest run --locked --lib

test: tools format lint licences advisories docs ## Run everything, the README's blocks and real clients included
	cargo nextest run --locked --lib --bins --tests --no-fail-fast

prove: tools ## Explore the model, fuzz, plant bugs and simulate for ten minutes after the build, and sum it up
	@.ci/prove

torture: ## Kill the gateway 300 times under load, then audit the books
	OVERFALL_KILLS=300 cargo nextest run --locked --profile torture -E 'test(=torture::whatever_is_killed_when_every_call_is_booked_once)' --no-capture

bench: ## Measure the figures of the README
	@.ci/tools bench
	cargo bench --locked
