# Every target sets up what it needs first; nothing has to be installed by hand but Python ≥ 3.11 and Node ≥ 20.
.DEFAULT_GOAL := help
SHELL := /bin/bash
bin := .venv/bin

.PHONY: help up down test coverage check bench bench-gateway drill drill-release clean image lock web

help: ## say what the targets do
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

up: ## set up, and run the whole chat on this machine (ARGS="--detach --port 18080" passes flags)
	@scripts/bootstrap build runtime engine-cpu web
	@$(bin)/pratique up $(ARGS)

down: ## stop what `make up` started
	@$(bin)/pratique down $(ARGS)

test: ## set up, and pass every test (ARGS="-k edge" passes flags to pytest)
	@scripts/bootstrap build runtime engine-cpu dev testkit release web browser tools
	@scripts/test $(ARGS)

coverage: ## trace the unit and integration tiers and hold the coverage gate, as CI does
	@scripts/bootstrap build runtime engine-cpu dev testkit release web tools
	@.venv/bin/python scripts/tiers.py --coverage

check: ## lint, types, import rules, size gates, locks, documentation
	@scripts/bootstrap build runtime engine-cpu dev testkit release web
	@scripts/check

bench: ## measure what is quick to measure (ARGS="startup" names one, ARGS=--all takes the long ones too)
	@scripts/bootstrap build runtime engine-cpu dev testkit release web tools
	@$(bin)/python -m benchmarks $(ARGS)

bench-gateway: ## measure the service as a gateway, against others (ARGS="--quick" is quicker, see docs/orchestrator/performance.md)
	@scripts/bootstrap build runtime engine-cpu dev testkit web tools
	@$(bin)/python -m benchmarks gateway $(ARGS)

drill: ## break a whole stack at random under load for 10 minutes, and judge it (ARGS="--minutes 1 --seed 7")
	@scripts/bootstrap build runtime dev testkit tools
	@$(bin)/python -m benchmarks drill $(ARGS)

drill-release: ## mend a vulnerable release in production at 2 a.m., timed; as root (ARGS="--canary-seconds 30 --without-broken")
	@scripts/bootstrap build runtime release dev testkit tools
	@$(bin)/python -m benchmarks release_drill $(ARGS)

image: ## build the orchestrator's image of this commit (ARGS="--verify" builds it twice and compares)
	@scripts/bootstrap build runtime release web
	@scripts/image $(ARGS)

lock: ## resolve the requirement sets again
	@scripts/bootstrap build dev
	@scripts/lock $(ARGS)

clean: ## remove what the other targets made in this folder
	rm -rf .venv .cache build dist test-results web/node_modules src/pratique/orchestrator/page .mypy_cache .ruff_cache .pytest_cache .hypothesis
