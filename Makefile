# `make demo` and `make test` do all the set-up that they need, then the work; `make` lists what there is.

# The first of these that runs and is Python 3.11 or newer makes the environment; PYTHON=... names another.
PYTHON ?= python3 python3.13 python3.12 python3.11
VENV ?= .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo quick test test-all lint format venv clean

# Each prints its slowest tests at the end; PYTEST_ARGS="-k synthesis" runs a part.
PYTEST := -m pytest --numprocesses=auto --maxprocesses=8 --dist=worksteal --durations=20
QUICK := tests/test_imports.py tests/test_pipeline.py tests/core tests/configs tests/stages/test_options.py
LONGER := data_parallel programs randaugment stored_views views diversity # of tests/core
QUICK += $(LONGER:%=--ignore=tests/core/test_%.py) -k 'not first_rounds and not masked_loop'

help:
	@echo 'make demo     distil the digits of scikit-learn, train students, write runs/demo/report.html'
	@echo 'make quick    run the tests of a minute: core, options, pipeline'
	@echo 'make test     run the tests of every change (PYTEST_ARGS="-k synthesis" for a part of them)'
	@echo 'make test-all run those that take long as well'
	@echo 'make lint     check format, lint and types'
	@echo 'make format   format, and fix what can be fixed'
	@echo 'make clean    remove the environment and the caches; runs/ stays'

demo: $(VENV)/.installed
	$(RUN) -m delt_jax.main --config=configs/digits.py --workdir=runs/demo

test: $(VENV)/.installed-test
	$(RUN) $(PYTEST) -m 'not slow' $(PYTEST_ARGS)

quick: $(VENV)/.installed-test
	$(RUN) $(PYTEST) -m 'not slow' $(QUICK) $(PYTEST_ARGS)

test-all: $(VENV)/.installed-test
	DELT_FUZZ_EXAMPLES=$${DELT_FUZZ_EXAMPLES:-200} $(RUN) $(PYTEST) $(PYTEST_ARGS)

lint: $(VENV)/.installed-test
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m pyright --pythonpath $(RUN)

format: $(VENV)/.installed-test
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- the environment: made once, installed again when pyproject.toml changes -----------------------------------

venv: $(VENV)/.made

# Missing, without a working interpreter, or killed while pip was writing to it: made anew.
ifneq ($(shell $(RUN) -m pip --version >/dev/null 2>&1 && [ ! -e $(VENV)/.installing ] && echo whole),whole)
.PHONY: $(VENV)/.made
endif

$(VENV)/.made:
	@for python in $(PYTHON); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        echo "making $(VENV) with $$($$python --version)"; \
	        $$python -m venv --clear $(VENV) >/dev/null && touch $@ && exit 0; \
	        rm -rf $(VENV); \
	        echo "$$python cannot make an environment (on Debian and Ubuntu: apt-get install python3-venv)" >&2; \
	        exit 1; \
	    fi; \
	done; \
	echo "delt_jax needs Python 3.11 or newer and found none as: $(PYTHON). Name one: make PYTHON=/path/to/python3" >&2; \
	exit 1

define install
@echo "installing $(1) into $(VENV) (a few minutes the first time)"
@touch $(VENV)/.installing
@$(PIP) --editable '$(1)' || { rm -f $(VENV)/.installing; exit 1; }
@rm -f $(VENV)/.installing
@touch $@
endef

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	$(call install,.)

$(VENV)/.installed-test: $(VENV)/.made pyproject.toml
	$(call install,.[test])
	@touch $(VENV)/.installed
