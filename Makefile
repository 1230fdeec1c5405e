# Two commands on a fresh machine: `make bench` (the benchmark) and `make test` (the tests). Each sets up all it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools
CORES := $(shell $(PYTHON) -c "import os; print(len(os.sched_getaffinity(0)))")
# Of the tests, the folders that take longest come first; the last one is what lies in tests/ itself.
LONGEST := tests/pipelines/ tests/run/ tests/data/ tests/methods/ tests/report/ tests/full_size/
FOLDERS := $(filter-out tests/,$(sort $(dir $(wildcard tests/*/test_*.py tests/*/*/test_*.py))))
ROOMS := $(LONGEST) $(filter-out $(LONGEST) tests/data/%,$(FOLDERS)) tests/test_*.py
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
# Where bytecode is switched off, every process parses torch anew, which takes seconds of each of hundreds. It lies outside
# $(VENV), which may be a part of an image that cannot be written to.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/.bytecode

.PHONY: bench test test-fast test-cluster fuzz full-size check gpu perf scaling evidence setup clean

setup: $(TOOLS)

# What the benchmark needs. The tools of development are not in it: torchmetrics alone, where it is installed, costs
# every training more than a second at its start.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) ".[dvc]"
	touch $@

$(TOOLS): $(READY)
	$(INSTALL) ".[dvc,dev]"
	touch $@

# Outside git (an unpacked archive), DVC must be told so.
.dvc/config.local:
	git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/dvc config --local core.no_scm true
	touch $@

bench: $(READY) .dvc/config.local
	$(BIN)/rc2l-bench run --grid --jobs 0
	$(BIN)/dvc repro
	@echo "report: reports/index.html"

# Rooms side by side, each in a process of its own and the longest first: many tests look at the processes, signals and
# the terminal of the one that they run in, so the tests of one room stay together.
test test-fast: $(TOOLS)
	$(MAKE) --no-print-directory --keep-going --output-sync=target --jobs=$(CORES) $(ROOMS:%=%.$@)

%.test:
	$(BIN)/python -m pytest $*

%.test-fast:
	$(BIN)/python -m pytest -m "not slow" $* || test $$? = 5  # none of them is fast

# On a Slurm of two nodes that is brought up here and taken down again; skipped where Debian's slurm-wlm and munge are not.
test-cluster: $(TOOLS)
	$(BIN)/python -m pytest -rs tests/cluster/check_grid.py

# What `make test` tries with a fixed seed, with others and twenty times as often: 72,000 cases.
fuzz: $(TOOLS)
	$(BIN)/python -m pytest tests/fuzzing --hypothesis-profile=fuzz --timeout=0

# Every recipe of the large data sets for 20 steps at its own size, on made-up archives: many hours on a CPU. What was
# found goes to reports/evidence/hardware/full_size.json; RECIPES="voc_cps or voc_u2pl" carries out these alone,
# STEPS=2 so few steps of each.
full-size: $(TOOLS)
	$(BIN)/python -m pytest -rs --timeout=0 $(if $(RECIPES),-k "$(RECIPES)") tests/full_size/check_recipes.py

check: $(TOOLS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What only a GPU can tell, in less than eight minutes; what was found goes to reports/evidence/hardware/<card>.json.
gpu: $(TOOLS)
	$(BIN)/python -m pytest tests/cuda -m cuda --timeout=240

perf: $(TOOLS)
	$(BIN)/python -m perf

# How the contrastive terms grow with the image, a few minutes; reports show reports/scaling from then on.
scaling: $(READY)
	$(BIN)/python -m perf.scaling reports/scaling

# What README and docs/ quote of the runs under reports/evidence, without training.
evidence: $(READY)
	$(BIN)/rc2l-bench evidence

clean:
	rm -rf data runs .rc2l .bytecode reports/figures reports/metrics reports/curves reports/scaling
	rm -f reports/index.html reports/report.md reports/results.csv reports/table.tex reports/citations.bib
