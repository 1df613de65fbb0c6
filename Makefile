# Everything runs inside .venv, which is made on first use.
#   make table1 CORES=8 CONFIG=config/local.yaml DATA=DIR

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
CORES ?= all
# Files laid over config/config.yaml, and the folder of `data.source: local`.
CONFIG ?=
DATA ?=

# Where the last of CONFIG that says so writes.
RESULTS ?= $(or $(shell sed -n 's/^results: *\([^ #]*\).*/\1/p' /dev/null $(CONFIG) 2> /dev/null | tail -n 1),results)

# First on the path, so that the rules' shell commands find `muxplm`.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONNOUSERSITE := 1

ENV := .venv/.installed
SNAKEMAKE := .venv/bin/snakemake --cores $(CORES)
SETTINGS := $(if $(CONFIG),--configfile $(CONFIG)) $(if $(DATA),--config data_folder=$(DATA))

.PHONY: help table1 all report smoke test test-faults test-cluster docs lint pins clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

table1: $(ENV) ## Regenerate Table 1 (CORES=all, CONFIG=config/config.yaml, DATA=)
	@$(SNAKEMAKE) $(SETTINGS) -- $(RESULTS)/tables/table1.tex
	@cat $(RESULTS)/tables/table1.md

all: $(ENV) ## Regenerate every table, every figure and the verdicts (CORES, CONFIG, DATA)
	@$(SNAKEMAKE) $(SETTINGS) -- all

# What is there by now; make expands it when it comes to the recipe. `muxplm claims` writes its page over any part of
# the results, but Snakemake wants all of them behind it: the page counts once the workflow has made it.
FINISHED = $(wildcard $(RESULTS)/tables/*.html $(RESULTS)/figures/*.png) \
	$(if $(wildcard $(RESULTS)/benchmarks/claims.tsv),$(RESULTS)/claims.html)

report: $(ENV) ## One HTML page of what is finished: tables, figures, claims, run times (CONFIG, DATA)
	@$(if $(strip $(FINISHED)),,echo "nothing to report in $(RESULTS): make table1 or make all first" >&2; exit 1)
	@$(SNAKEMAKE) $(SETTINGS) --report $(RESULTS)/report.html -- $(FINISHED)

smoke: $(ENV) ## Run every rule, on tiny data
	@$(SNAKEMAKE) --configfile config/smoke.yaml -- all

test: $(ENV) ## Run the whole test suite, the smoke DAG included
	@.venv/bin/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

KILLS ?= 100
SEED ?= 0
BUNDLES ?= all task cell

test-faults: $(ENV) ## Every malformed input; the smoke DAG under KILLS random kills for each bundle (SEED)
	@.venv/bin/pytest -q tests/test_malformed.py tests/test_faults.py --every-input
	@.venv/bin/python tests/kills.py --kills $(KILLS) --seed $(SEED) --bundles $(BUNDLES)

test-cluster: $(ENV) ## Run the smoke DAG through a real SLURM here, then through faults (Debian, root)
	@tests/cluster/run.sh

docs: $(ENV) ## Build README and docs/ as a site in site/; a broken link fails
	@# Not --quiet: what it does not say it does not count, and nothing would fail.
	@NO_MKDOCS_2_WARNING=1 mkdocs build

lint: $(ENV) ## Check style: Python, Snakefiles, workflow
	@ruff check .
	@ruff format --check .
	@snakefmt --check Snakefile workflow
	@# Not held: an environment for each rule (there is one, made by make), and CONFIG, the file of the run's
	@# settings: as a parameter it would repeat every job.
	@{ snakemake --lint 2>&1 || true; } | awk '/^    \* / && !/conda environment|variable CONFIG/ || /Error|Exception/ \
	    { print; bad = 1 } END { exit bad }'

pins: $(ENV) ## Write what .venv holds to constraints.txt and environment.yml
	@# CUDA's own wheels follow from torch and exist on Linux only: they are not pinned.
	@pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools --exclude wheel \
	    | grep -vE '^(nvidia|cuda|triton)' | sed 's/+.*//' | LC_ALL=C sort -f -t= -k1,1 > .venv/pins
	@{ echo '# The tested versions of everything muxplm needs. Made by `make pins`; not edited.'; \
	   cat .venv/pins; } > constraints.txt
	@{ echo '# The pins of constraints.txt for conda. Made by `make pins`; not edited.'; \
	   printf '%s\n' 'name: muxplm' 'channels: [conda-forge, nodefaults]' 'dependencies:' \
	                 '  - python=3.11' '  - pip' '  - pip:'; \
	   sed 's/^/      - /' .venv/pins; echo '      - -e .'; } > environment.yml
	@touch $(ENV)

clean: ## Remove results, scratch and caches
	@find results -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
	@rm -rf scratch site .snakemake .pytest_cache .ruff_cache
	@find src tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv
	@rm -rf .venv src/*.egg-info

$(ENV): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "muxplm needs Python 3.11 or newer; say which with make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@# pip would compile on one core.
	@.venv/bin/python -m pip install -q --no-compile -c constraints.txt -e '.[dev,docs,onnx,serving,slurm]'
	@.venv/bin/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true  # some files are templates
	@touch $@
