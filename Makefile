PYTHON ?= python3
comma := ,
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup run test test-fast acceptance lint types docs benchmark sweep reproduce report clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(SETUP) ## Make .venv and install the package with its exact tested dependencies

$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into $(VENV); this takes a minute or two."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# torch first: the version that is pinned is not then replaced by a larger build of another
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(SETUP)

run: $(SETUP) ## Train DEFT on Color dSprites at quick scale, on the CPU; scores and pictures at the end
	$(BIN)/python -m deft_lightning +experiment=color_dsprites scale=quick trainer=cpu

test: $(SETUP) ## Run all tests but the acceptance tests, in two processes
	$(PYTEST) --durations=15

test-fast: $(SETUP) ## Run the tests that train nothing and start no processes, in under a minute
	$(PYTEST) -m "not slow and not acceptance"

acceptance: $(SETUP) ## Run what is slow by nature: the browser, the code of the docs, long trainings and comparisons
	$(PYTEST) -m acceptance --durations=15

lint: $(SETUP) ## Check style and formatting with ruff, and that folders import only downwards
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(SETUP) ## Check types with mypy
	$(BIN)/mypy

docs: $(SETUP) ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

benchmark: $(SETUP) ## Measure training throughput (keep the machine quiet)
	$(BIN)/python benchmarks/training_throughput.py
	$(BIN)/python benchmarks/thresholds_population.py

sweep: $(SETUP) ## DEFT and a beta-VAE on Color dSprites, two seeds each at quick scale, two jobs at once; can be resumed
	$(BIN)/python -m deft_lightning --multirun +sweep=small trainer=cpu hydra/launcher=processes \
		sweep.name=small sweep.resume=$(if $(wildcard multirun_outputs/small/multirun.yaml),true,false)

reproduce: $(SETUP) ## What each of the paper's tables and figures costs here, and the runs of ROW (SCALE, SEEDS, METHODS)
	$(BIN)/python -m deft_lightning.launch.reproduce --row $(or $(ROW),table2_dsprites) --scale $(or $(SCALE),quick) \
		--seeds $(or $(SEEDS),3) --methods $(or $(METHODS),deft$(comma)beta_vae) $(if $(COST),--cost)

report: $(SETUP) ## Put every run of RUNS (multirun_outputs) on one page, report/index.html, and open it
	$(BIN)/python -m deft_lightning.report $(or $(RUNS),multirun_outputs) --open

clean: ## Remove .venv and build files; runs and prepared data stay
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
