PROFILE ?= default
VENV := .venv
BIN := $(VENV)/bin
# The stamp carries a checksum of what setup reads: it is redone when one of these files changes, and only then.
REQUIREMENTS := requirements.txt requirements-data.txt pyproject.toml
STAMP := $(VENV)/.setup-$(firstword $(shell cat $(REQUIREMENTS) | cksum))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup book test test-all lint clean teacher texts organism

help: ## List the targets
	@echo "make TARGET [PROFILE=smoke|default|full]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

book: $(STAMP) ## Set up, prepare the data, run every notebook under PROFILE, build the book
	@$(BIN)/ctd book --profile $(PROFILE)

# Tests in two processes of one thread each: first those of the parts, then those that need the book's runs and pages.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS)

test: lint ## Set up, then lint, types, unit tests, the smoke run of all notebooks, the built site (17 minutes)
	@$(PYTEST) --dist loadfile -m "not book and not slow"
	@$(PYTEST) --dist loadgroup -m "book and not slow"

test-all: test ## What test does, and the proof that every parameter of every notebook moves its results (an hour)
	@$(PYTEST) --dist loadgroup -m slow

lint: $(STAMP) ## Set up, then ruff and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

setup: $(STAMP) ## Make .venv with the exact versions of requirements.txt

$(STAMP):
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer on the PATH (looked for python3.11, python3.12," \
		"python3.13, python3): install one, or say where: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@start=$$(date +%s) && \
	{ test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) could not make $(VENV):" \
		"install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }; } && \
	$(BIN)/pip install -r requirements.txt && \
	$(BIN)/pip install --no-deps -r requirements-data.txt && \
	$(BIN)/pip install --no-deps --no-build-isolation -e . && \
	rm -f $(VENV)/.setup-* && \
	echo $$(($$(date +%s) - start)) > $(VENV)/.setup-seconds && \
	touch $@

teacher: $(STAMP) ## Rebuild the teacher smollm2-mesh (three hours on two cores)
	@$(BIN)/python -m ctd.recipes.teacher

texts: $(STAMP) ## Write what the teachers say in the default profile anew (data/texts, data/lists; an hour on two cores)
	@rm -rf data/texts data/lists
	@for notebook in 02_reasoning_trajectories 03_shortlist_isolation 08_complementarity; do \
		CTD_TEXTS=keep $(BIN)/ctd run $$notebook --force || exit 1; done

organism: $(STAMP) ## Rebuild the model organism, plain and planted (about an hour on two cores)
	@$(BIN)/python -m ctd.recipes.organism

clean: ## Remove runs and the built book; .venv and the cache stay
	rm -rf runs book/_build book/_source .mypy_cache .pytest_cache .ruff_cache
