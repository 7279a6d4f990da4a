# make reproduce [PROFILE=cpu] [ARGS="--only 06,07"]   the report of reports/$(PROFILE), from nothing
# make setup       installs into .venv
# make lab         the notebooks in JupyterLab
# make book        README, docs, the notebooks as they ran and the report, as a web site: build/book/index.html
# make check       lint, types, directions of imports, unit tests: minutes
# make test        all that must pass before a release: also integration, system, all notebooks in the smoke profile
# make test-full   also the notebooks twice, 20 runs killed midway, 10,000 fuzz cases, the paper's size, planted mistakes: hours
# make rehearse    the a100 profile to its last notebook, a step of everything
# Each sets everything up by itself: Python 3.11 and make are all that must be there.

PROFILE ?= cpu
ARGS ?=
PYTHON ?=
BIN := .venv/bin
NEEDED_GB := 10

.DEFAULT_GOAL := help
.PHONY: help setup .disk .venv-made .installed reproduce rehearse book check test test-full lint unit tiers notebooks paper-size planted lab lock clean
.NOTPARALLEL:

help:
	@sed -n 's/^# make /make /p' Makefile
	@echo 'make lint | unit | notebooks | paper-size | planted | lock | clean'

# Installs only where a version, pyproject.toml or the folder changed since the last install that went through.
setup:
	@if [ "$$(cat pyproject.toml requirements.lock; pwd)" != "$$(cat .venv/stamp 2> /dev/null)" ] || ! $(BIN)/python -c ''; then \
	  $(MAKE) --no-print-directory .disk .venv-made .installed; fi

.disk:
	@free=$$(df -Pk . | awk 'NR == 2 { print int($$4 * 1024 / 1e9) }'); \
	if [ "$$free" -lt $(NEEDED_GB) ]; then \
	  echo "disk: $$free GB free here, $(NEEDED_GB) GB needed: free some, or clone to a larger disk" >&2; exit 1; fi

.venv-made:
	@$(BIN)/python -c '' 2> /dev/null && exit 0; \
	for python in $(or $(PYTHON),python3.11 python3 python); do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; then \
	    exec $$python -m venv --clear .venv; fi; done; \
	echo "Python 3.11 with venv: not found: install it (Debian: python3.11-venv) or make PYTHON=/path/to/python3.11" >&2; \
	exit 1

# pip works in the background, so that a log shows that it lives.
.installed:
	@echo "installing into .venv: about 7 GB, 2 to 6 minutes, log in .venv/install.log"; \
	pip="$(BIN)/python -m pip install --quiet --disable-pip-version-check"; \
	{ $$pip --require-hashes -r requirements.lock && $$pip --no-deps -e . 'musicnn==0.1.0'; } > .venv/install.log 2>&1 & pid=$$!; \
	trap "kill $$pid 2> /dev/null" EXIT INT TERM; seconds=0; \
	while kill -0 $$pid 2> /dev/null; do sleep 1; seconds=$$((seconds + 1)); \
	  if [ $$((seconds % 20)) -eq 0 ]; then echo "installing: $$seconds s, $$(du -sm .venv 2> /dev/null | cut -f 1) MB"; fi; done; \
	if ! wait $$pid; then tail -n 5 .venv/install.log >&2; \
	  echo "install: failed, log in .venv/install.log: check the network, then make again" >&2; exit 1; fi; \
	mkdir -p .venv/types; for name in numpy matplotlib pandas; do \
	  ln -sfn ../lib/python3.11/site-packages/$$name .venv/types/$$name; done; \
	{ cat pyproject.toml requirements.lock; pwd; } > .venv/stamp; echo "installed in $$seconds s"

# The newest versions that pyproject.toml allows, with their hashes, for every platform.
lock: setup
	$(BIN)/python -m pip install --quiet 'uv<1'
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11 --universal --generate-hashes \
	  --no-annotate --no-header --upgrade --quiet -o requirements.lock

reproduce: setup
	@$(BIN)/mousai reproduce --profile $(PROFILE) $(ARGS)

rehearse: setup
	@$(BIN)/mousai reproduce --profile a100 --rehearse $(ARGS)

# Nothing here needs a network; without this a hub is asked, and waited for.
check test test-full lint unit tiers notebooks paper-size planted: export HF_HUB_OFFLINE = 1
PYTEST = $(BIN)/python -m pytest
TWO = -n 2 --dist worksteal

check: lint unit
	@echo 'not run: integration, system, notebooks (make test); paper size, planted mistakes (make test-full)'

test: lint tiers notebooks
	@echo 'not run: the notebooks again, 20 runs killed midway, 10,000 fuzz cases, paper size, planted mistakes (make test-full)'

# The same, wider: nothing is left out, and fuzzing takes as many cases as it names.
test-full: NOT_FULL =
test-full: FUZZ = --hypothesis-profile full
test-full: lint tiers notebooks paper-size planted

NOT_FULL = and not full
FUZZ =

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

unit: setup
	$(PYTEST) $(TWO) -m unit

tiers: setup
	$(PYTEST) $(TWO) -m "not notebooks and not paper_size $(NOT_FULL)" $(FUZZ)

# Both processors to themselves.
notebooks: setup
	$(PYTEST) -m "notebooks $(NOT_FULL)"

paper-size: setup
	$(PYTEST) -m paper_size

planted: setup
	$(BIN)/python tests/planted_mistakes.py --write tests/PLANTED.md

# Executes and fetches nothing.
book: setup
	@$(BIN)/sphinx-build -q -c docs -d build/doctrees . build/book && echo 'build/book/index.html'

# From the repository's root, so that the lessons' links to the README work.
lab: setup
	$(BIN)/jupyter lab --ServerApp.root_dir=. notebooks/00_text2music.ipynb

# Data and checkpoints in runs/ stay.
clean:
	rm -rf .venv .pytest_cache .ruff_cache build mousai.egg-info
	find mousai tests notebooks -name __pycache__ -prune -exec rm -rf {} +
