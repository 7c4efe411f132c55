# What a contributor needs, as verbs. `make install` needs python3 >= 3.11 with venv, npm, and make.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VENDOR := src/roost/web/static/vendor/made-from
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
SEED ?= 1
WORKERS ?= 2
SUITE ?= sid
HTCONDOR := .htcondor/made-from-$(SUITE)

.DEFAULT_GOAL := help
.PHONY: help install demo serve peers test quick sim bench growth day bench-peers htcondor pictures lint docs lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) $(VENDOR) ## a virtual environment in .venv with everything pinned, and .venv/bin/roost

# Made again only when the lock or the package's description changes.
$(STAMP): requirements/dev.txt pyproject.toml package-lock.json hatch_build.py
	@if [ -z "$(PYTHON)" ]; then \
		echo "Roost needs Python 3.11 or newer and found none. Install it (Debian: apt install python3 python3-venv)" >&2; \
		echo "or name one: make install PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@command -v npm >/dev/null || { \
		echo "The web pages are put together with npm, and there is none. On Debian and Ubuntu: apt install npm" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@"$(BIN)/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		"$(PYTHON)" -m venv --clear $(VENV)
	@"$(BIN)/python" -m pip --version >/dev/null 2>&1 || "$(BIN)/python" -m ensurepip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

# The style sheet has what these files use of Tabler.
$(VENDOR): $(STAMP) $(wildcard src/roost/web/templates/*.html src/roost/web/static/*.js) src/roost/web/fragments.py
	@$(BIN)/python hatch_build.py
	@touch $(VENDOR)

demo: install ## a farm on this machine computes a picture from 24 jobs; results in demo-farm/
	$(BIN)/python -m roost.demo

serve: install ## a farm on this machine until Ctrl-C, its data in demo-farm/serve
	$(BIN)/roost up --allow-root --data demo-farm/serve

test: install ## the whole suite
	$(BIN)/pytest -n $(WORKERS)

peers: install ## clients that tests use and that cannot be installed with the others
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--target .htchirp-2.0 --upgrade htchirp==2.0

quick: install ## the parts that need no processes: a few seconds
	$(BIN)/pytest -m 'not slow' $(wildcard tests/core tests/wire tests/hqueue tests/test_tidy.py)

sim: install ## replay one simulated world: make sim SEED=4711
	$(BIN)/python tests/sim/run.py --seed $(SEED)

bench: install ## measure Roost against the machine's own limits
	$(BIN)/python bench/run.py

growth: install ## measure from 1,000 to 1,000,000 jobs, and from 1 to 1,000 agents
	$(BIN)/python bench/growth.py

day: install ## simulate a part of ten million jobs a day on 10,000 machines
	$(BIN)/python bench/day.py

bench-peers: ## what `make bench` compares Roost with, in .bench-peers (Debian: redis-server slurmctld slurmd slurm-client munge)
	"$(PYTHON)" -m venv .bench-peers
	.bench-peers/bin/pip install --quiet --disable-pip-version-check \
		hyperqueue==0.27.0 distributed==2026.8.0 huey==3.5.4 celery==5.7.0 redis==8.1.0

htcondor: $(HTCONDOR) ## a Debian with HTCondor in .htcondor, for tests and `make bench` (SUITE=trixie for an older one)

# Nothing is ever mounted in it but in namespaces that end with the pool.
$(HTCONDOR):
	@command -v mmdebstrap >/dev/null || { \
		echo "HTCondor is installed with mmdebstrap, and there is none. On Debian and Ubuntu: apt install mmdebstrap" >&2; exit 1; }
	@[ "$$(id -u)" = 0 ] || { echo "HTCondor's daemons run jobs as other users, so this needs root: sudo make htcondor" >&2; exit 1; }
	rm -rf --one-file-system .htcondor.new
	mmdebstrap --quiet --variant=minbase --include=condor,python3 --aptopt='Acquire::Check-Valid-Until "false"' \
		--customize-hook='chroot "$$1" useradd --create-home tester' $(SUITE) .htcondor.new $(MIRROR)
	@touch .htcondor.new/made-from-$(SUITE)
	rm -rf --one-file-system .htcondor
	@mv .htcondor.new .htcondor

pictures: install ## take the pictures of the pages in README again (needs Chromium)
	$(BIN)/python bench/pictures.py

lint: install ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: install ## write the generated reference pages again
	$(BIN)/python -m roost.cli.reference > docs/reference/cli.md
	$(BIN)/python -m roost.hqueue.dispatch > docs/reference/hqueue-api.md

# Needs uv. The files name no host and hold for every platform and Python from 3.11 on.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header pyproject.toml

lock: ## choose the newest versions that fit and pin them with hashes (needs uv)
	$(COMPILE) --upgrade -o requirements/roost.txt
	$(COMPILE) --upgrade --group dev -o requirements/dev.txt

clean: ## remove everything that the other verbs made
	rm -rf --one-file-system .htcondor .htcondor.new
	rm -rf $(VENV) .bench-peers .htchirp-2.0 node_modules src/roost/web/static/vendor demo-farm build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
