# Two commands matter: `make demo` and `make test`. Both set up a virtual environment in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint clean help

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/ -/'

demo: $(VENV)/.ready  ## build a synthetic corpus, train on it, score, report: results/demo/report.html
	@$(BIN)/alpha-sv demo $(if $(LOSS),--loss $(LOSS))

# one process for each core, four at most (each takes 1.5 GB), with one thread each and one order of sets,
# so that all collect the same tests; bytecode is kept, whatever the user's own setting, because tests start
# many processes, and each would compile everything again
PYTEST := PYTHONHASHSEED=0 OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.ready  ## the fast tests and the examples of the docstrings
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.ready  ## every test, the slow ones too
	$(PYTEST)

lint: $(VENV)/.ready  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "alpha_sv needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 …"; exit 1; }
	@echo "Setting up $(VENV): PyTorch, SpeechBrain and the rest (a minute or more, several GB)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --editable '.[demo,dev]'
	@touch $@

.PHONY: docs docs-test dist
docs: $(VENV)/.docs  ## the site, build/site/index.html: tutorials, how-tos, the API; it works from a disk
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

docs-test: $(VENV)/.docs  ## runs the tutorials and builds the site; docs/demo.svg is drawn by docs/site/picture.py
	$(PYTEST) --dist load tests/test_site.py

$(VENV)/.docs: $(VENV)/.ready
	@$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

# URL is where the documents lie in the web, such as https://host/owner/alpha_sv/blob/v0.2.0
dist: $(VENV)/.ready  ## wheel and sdist in build/dist, tried from an empty folder; URL=… makes the README's links absolute
	@PYTHON=$(BIN)/python .ci/package $(URL)

clean:           ## remove the environment and all results
	rm -rf $(VENV) results build *.egg-info

.PHONY: bench
bench: $(VENV)/.ready  ## benchmarks/RESULTS.md anew, on a machine with nothing else to do (about 35 minutes, 20 GB in TMPDIR)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/gen.py

.PHONY: torture
torture: $(VENV)/.ready  ## docs/reliability.md anew: kills, full disks, damaged files (about half an hour)
	$(BIN)/python -m tests.torture $(PART)
