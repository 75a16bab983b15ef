# Flotilla: set-up, demo and tests. `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-localstack chaos bench fmt lint lint-templates doc deny clean-docker

# Runs a command with cargo on PATH and what the programs expect in the environment.
RUN := deploy/dev/in-env
# Runs a command with two endpoints; what nextest starts below it uses one of them, by its slot.
TWICE = $(foreach _,1 2,deploy/dev/with-endpoint $(1) --) env CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$(CURDIR)/deploy/dev/on-an-endpoint

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: Docker engine, MiniStack, sandbox image
	@deploy/dev/setup

demo: setup ## grade examples, compile a package, stop an instance by schedule, find a blockage
	@$(RUN) cargo build --workspace --bins
	@$(RUN) deploy/dev/demo

test: setup ## every test there is, on MiniStack
	@deploy/dev/setup-tests
	@$(RUN) cargo build --workspace --bins
	@$(call TWICE,ministack) $(RUN) cargo nextest run --workspace
	@$(RUN) cargo test --doc --workspace

# The profile has no limit of four minutes. FLOTILLA_CHAOS_SEED repeats a run's faults.
chaos: setup ## the fault suite in its long form: ten thousand messages (its short form is in `make test`)
	@deploy/dev/setup-tests
	@$(RUN) cargo build --workspace --bins
	@FLOTILLA_CHAOS=long deploy/dev/with-endpoint ministack -- $(RUN) cargo nextest run --workspace --profile chaos -E 'test(chaos::)'

# Chosen by a filter and not by -p, which would choose other features and build
# the dependencies again.
# The fault suite and the longest history of a device are so hard on an endpoint that they are left
# to the faster one; hostile programs and builds are hard on the machine, and ask nothing new of an
# endpoint.
test-localstack: setup ## the integration tests, on LocalStack
	@deploy/dev/setup-tests
	@$(RUN) cargo build --workspace --bins
	@$(call TWICE,localstack) $(RUN) cargo nextest run --workspace -E 'package(flotilla-tests) - test(/^chaos::/) - test(twenty_thousand) - test(/^attacks::/) - test(/^packages_hostile::/)'

bench: ## measure the figures, one JSON object on a line; BENCH=queue for those of one bench
	@deploy/dev/bench $(BENCH)

fmt: ## format the code
	@$(RUN) cargo fmt --all

lint: ## format check, and clippy with warnings denied
	@$(RUN) cargo fmt --all --check
	@$(RUN) cargo clippy --workspace --all-targets -- -D warnings

lint-templates: ## the CloudFormation templates, with cfn-lint
	@deploy/dev/lint-templates

doc: ## the API documentation, with warnings denied
	@RUSTDOCFLAGS="-D warnings" $(RUN) cargo doc --workspace --no-deps

deny: ## the dependency tree (licences, sources, bans, advisories), with cargo-deny
	@$(RUN) deploy/dev/deny

clean-docker: ## remove Flotilla's containers from the Docker engine
	@deploy/dev/clean-docker
