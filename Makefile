# Each target sets up what it needs. PYTHON=python3.13 picks an interpreter, ARGS="..." passes arguments on:
#   make demo ARGS="--once --json"      make test ARGS="tests/auth -x"

PYTHON ?=
ARGS ?=
# Most tests wait for something rather than compute: three workers keep two processors busy.
JOBS ?= 3
VENV := .venv
BIN := $(VENV)/bin
# The stamps tell what is installed; they age with pyproject.toml and carry the interpreter that was asked for.
FLAVOUR := $(if $(PYTHON),-$(notdir $(PYTHON)))
RUNTIME := $(VENV)/.runtime$(FLAVOUR)
DEV := $(VENV)/.dev$(FLAVOUR)
# Debian keeps haproxy where only root looks.
export PATH := $(PATH):/usr/sbin
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo bench test check lint types fmt clean haproxy servers peers

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

demo: $(RUNTIME) ## simulated callers talk to a simulated agent through the bridge
	@$(BIN)/bridge demo $(ARGS)

bench: $(RUNTIME) haproxy ## measure how many calls this machine carries
	@$(BIN)/bridge bench $(ARGS)

test: $(DEV) haproxy servers peers ## the whole suite; names what took over 2 s
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations=15 --durations-min=2 $(ARGS)

check: test lint types ## everything that CI checks

lint: $(DEV) ## style, without changing anything
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(DEV) ## types, strictly
	@$(BIN)/mypy

fmt: $(DEV) ## mend style, and the README's generated blocks
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python -c "import pathlib, bridge.readme as t; p = pathlib.Path('README.md'); \
	  p.write_text(t.update_readme(p.read_text('utf-8')), 'utf-8')"

clean: ## remove all that the other targets made
	@rm -rf $(VENV) build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The yardstick of the bench: a relay that only copies bytes. On CI it must be there; elsewhere its test is skipped.
haproxy:
	@command -v haproxy >/dev/null || .ci/system-packages haproxy || test -z "$$CI"

# The tests start their own, on free ports and in temporary folders. As above: a must on CI, else skipped with a reason.
servers:
	@{ command -v redis-server && { command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; }; } >/dev/null 2>&1 || \
	  .ci/system-packages redis-server postgresql || test -z "$$CI"

# Real other sides: SIP test phones, a browser, a proxy, Prometheus' own checker. Tests of those that cannot be had are
# skipped with a reason: not every system has every one of them.
PEERS := curl:curl sqlite3:sqlite3 sipp:sip-tester baresip:baresip caddy:caddy promtool:prometheus chromium:chromium
peers:
	@for pair in $(PEERS); do \
	  command -v "$${pair%%:*}" >/dev/null || .ci/system-packages "$${pair#*:}" || echo "without $${pair#*:}"; done

$(RUNTIME): pyproject.toml .ci/venv
	@.ci/venv $(VENV) .
	@touch $@

$(DEV): pyproject.toml .ci/venv
	@.ci/venv $(VENV) '.[dev]'
	@touch $(RUNTIME) $@
