# `make demo` and `make test` do everything on a fresh machine; the rest is for developers.

# The first Python that is new enough and can make an environment; say make PYTHON=/path/to/python to choose another.
# 3.11 comes first: it is what the functions run on.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# One environment, filled in two sizes: what the demo needs, and everything. The larger serves for both.
DEMO := $(VENV)/.demo
DEV := $(VENV)/.dev

.DEFAULT_GOAL := help
.PHONY: help checkov setup demo test schemathesis openapi lint types format build lock cloudbuild infra simulate report mutation-check bench-control-plane bench-main bench-scale bench-snapshots bench-failover bench-sleep bench-wake clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(DEV) ## install everything into .venv

demo: $(if $(wildcard $(DEV)),$(DEV),$(DEMO)) ## the whole of Dumont on this machine, against a simulated market
	$(BIN)/python -m dumont.local.demo

# For two cores: end-to-end tests wait half of their time, so three at once; and a file's tests stay together, in the
# order that tests/end_to_end/conftest.py gives the files.
test: $(DEV) ## all tests; say make test ARGS='-k provision' for some
ifeq ($(ARGS),)
	@failed=0; \
	$(BIN)/python -m pytest -n 2 -q tests/unit tests/simulation || failed=1; \
	$(BIN)/python -m pytest -n 3 -q --dist loadfile --no-loadscope-reorder tests/contract tests/end_to_end || failed=1; \
	exit $$failed
else
	$(BIN)/python -m pytest $(ARGS)
endif

lint: $(DEV) ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV) ## check types; all main.py at once, each under a name of its own
	@rm -rf build/types && mkdir -p build/types
	@for main in functions/*/main.py; do \
		folder=$${main%/main.py}; ln -s ../../$$main build/types/function_$$(basename $$folder | tr - _).py; done
	$(BIN)/mypy
	$(BIN)/mypy build/types/*.py

format: $(DEV) ## put style and format right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(DEV) ## source bundles of all functions, into build/functions
	$(BIN)/python -m dumont.build.bundles

lock: $(DEV) ## requirements/ from pyproject.toml; make lock UPGRADE=1 takes the newest versions
	$(BIN)/python -m dumont.build.lock $(if $(UPGRADE),--upgrade)

cloudbuild: $(DEV) ## cloudbuild.yaml from shared/dumont/build/cloudbuild.py
	$(BIN)/python -m dumont.build.cloudbuild

infra: $(DEV) ## what infra/ takes from functions/ and the queries; then its format and its tests
	$(BIN)/python -m dumont.build.infra
	@if command -v terraform >/dev/null; then terraform fmt infra; else echo 'no terraform: format not looked at'; fi
	$(BIN)/python -m pytest -q tests/unit/test_infra*.py

openapi: $(DEV) ## docs/openapi.json from the functions
	$(BIN)/dumont openapi > docs/openapi.json

schemathesis: $(DEV) ## ask the functions all that docs/openapi.json allows, and more; ARGS='--examples 200 --seed 1'
	$(BIN)/python -m tests.end_to_end.api_fuzz $(ARGS)

# In an environment of its own: it is larger than all else together.
CHECKOV := build/checkov/bin/checkov
$(CHECKOV):
	$(PYTHON) -m venv build/checkov
	build/checkov/bin/python -m pip --disable-pip-version-check --quiet install checkov==3.3.30

checkov: $(CHECKOV) ## infra/ by checkov's rules
	$(CHECKOV) --directory infra --framework terraform --compact --quiet

simulate: $(DEV) ## random lives of machines, with faults; make simulate SEEDS=10000 runs more of them
	$(BIN)/python -m tests.simulation $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

report: $(DEV) ## what the simulation measures, as a page: build/report/index.html; SEEDS=1000 ARGS='--hours 48 --hundred'
	$(BIN)/python -m tests.report $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

mutation-check: $(DEV) ## deliberate defects, each of which the simulation must find; ARGS='--new --write', ARGS='--only NAME'
	$(BIN)/python -m tests.simulation.mutation $(ARGS)

bench-scale: $(DEV) ## measure a sweep over 10,000 machines, and heartbeats a second
	$(BIN)/python -m tests.benchmarks.bench_scale $(ARGS)

bench-control-plane: $(DEV) ## count what the control plane uses, at Google's list prices, for 1 to 10,000 machines
	$(BIN)/python -m tests.benchmarks.bench_control_plane $(ARGS)

bench-main: $(DEV) ## measure what the functions take
	$(BIN)/python -m tests.benchmarks.bench_main $(ARGS)

bench-snapshots: $(DEV) ## measure snapshots beside restic and a plain copy; ARGS=--small for a short form
	$(BIN)/python -m tests.benchmarks.bench_snapshots $(ARGS)

bench-failover: $(DEV) ## measure what a host's death costs; ARGS=--small for a short form
	$(BIN)/python -m tests.benchmarks.bench_failover $(ARGS)

bench-sleep: $(DEV) ## a month of three patterns of use by the rules of sleep; ARGS='--months 10' for more
	$(BIN)/python -m tests.benchmarks.bench_sleep $(ARGS)

bench-wake: $(DEV) ## measure what the gateway adds, awake and across a wake; ARGS=--small for a short form
	$(BIN)/python -m tests.benchmarks.bench_wake $(ARGS)

clean: ## remove what was built; .venv stays
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find functions shared tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf $(VENV)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { \
		echo 'Dumont needs Python 3.11 or newer with its venv module, and found none.' >&2; \
		echo 'Debian, Ubuntu: apt-get install python3-venv. macOS: brew install python@3.11.' >&2; \
		echo 'Or say: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Dumont needs Python 3.11 or newer, and $(PYTHON) is not.' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '$(PYTHON) lacks its venv module. Debian, Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@echo 'making $(VENV) with $(PYTHON)'
	@$(PYTHON) -m venv $(VENV)

# Only what the locks name, and only with the hashes that they name. uv takes a tenth of pip's time; where it finds no
# index, since only pip was told of one, pip does it. Byte-compiled is all after it, on all cores, whatever
# PYTHONDONTWRITEBYTECODE says: without it each start takes seconds. Some packages carry templates that are not Python,
# so its status says nothing.
$(DEMO) $(DEV): $(VENV)/.%: requirements/%.txt pyproject.toml | $(VENV)/bin/python
	@echo 'installing $<'
	@sed -n '/^uv==/,/[^\\]$$/p' requirements/dev.txt >$(VENV)/uv.txt
	@{ $(PIP) install --no-compile --require-hashes -r $(VENV)/uv.txt && $(BIN)/python -m uv pip install --quiet \
		--system-certs --no-config --python $(BIN)/python --require-hashes -r $<; } || $(PIP) install --no-compile --require-hashes -r $<
	@$(PIP) install --no-compile --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib shared >/dev/null || true
	@touch $@
