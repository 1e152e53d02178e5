# make demo    install what the main job needs and run it
# make test    install the test tools and run the quick tests; make slow runs the others
# make setup   only install, into .venv; make lint, make clean
# make formal  prove what tests/formal claims of the hardware
# make docs    build the pages into build/docs
# make wheel   build the wheel, and the list of what it needs (software bill of materials), into build/wheel
# make lock    write the newest versions that fit, with their hashes, into lock.txt; LOCKED=1 installs these and no others
# Every target may be repeated: stamps in .venv tell what is installed already.

MAKEFLAGS += --no-builtin-rules
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: setup demo test slow lint formal docs wheel lock clean icarus

# The Python that makes .venv: 3.11 or later.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
# The build of torch that the tests use, and where to look for it beside pip's configured places. The CPU build has no
# gigabytes of CUDA libraries. Elsewhere than on Linux every build is a CPU build.
TORCH_VERSION := 2.13.0
TORCH_INDEX := https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

setup: $(VENV)/egret-base

demo: setup
	$(BIN)/egret demo

test: $(VENV)/egret-test icarus
	$(BIN)/python -m pytest -n auto --dist worksteal --durations 15

# Which of them; `.ci/run` takes "slow and not long".
slow: SLOW ?= slow
slow: $(VENV)/egret-test icarus
	$(BIN)/python -m pytest -m "$(SLOW)" -n auto --dist worksteal --durations 15

lint: $(VENV)/egret-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

# `.ci/run` leaves the faults out: FORMAL=--no-mutants.
formal: $(VENV)/egret-formal
	$(BIN)/python -m tests.formal $(FORMAL)

# The source directory is the root: links between pages work in the tree and in what is built.
docs: $(VENV)/egret-docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --jobs auto --builder html --conf-dir docs . build/docs
	@echo "build/docs/docs/index.html"

# CycloneDX, of an environment that has the wheel and nothing else.
wheel: $(VENV)/egret-venv
	rm -rf build/wheel
	$(PIP) build cyclonedx-bom
	$(BIN)/python -m build --wheel --outdir build/wheel .
	"$(PYTHON)" -m venv --without-pip build/wheel/environment
	$(BIN)/python -m pip --python build/wheel/environment/bin/python --disable-pip-version-check install --quiet \
		build/wheel/*.whl
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file build/wheel/egret-fpga.cdx.json build/wheel/environment
	rm -rf build/wheel/environment

# Without torch and the CUDA that it brings: the CPU build has another file in each place that it comes from.
lock: $(VENV)/egret-venv
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --universal --python-version 3.11 --generate-hashes \
		--extra test --constraint <(echo "torch==$(TORCH_VERSION)") --no-emit-package torch pyproject.toml \
		| awk '/^[a-z#]/ {kept = !/^(nvidia|cuda)-|^#/} kept' >$@.txt

clean:
	rm -rf $(VENV) build .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so what was interrupted is done again.

$(VENV)/egret-venv:
	@test -n "$(PYTHON)" || { echo "egret: Python 3.11 or later is needed and was not found; install it," \
		"or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "egret: Python 3.11 or later is" \
		"needed; $(PYTHON) is $$("$(PYTHON)" --version 2>&1)" >&2; exit 1; }
	rm -rf $(VENV)
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

ifdef LOCKED
$(VENV)/egret-base: $(VENV)/egret-venv pyproject.toml lock.txt
	$(PIP) --no-deps --require-hashes --requirement lock.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
else
$(VENV)/egret-base: $(VENV)/egret-venv pyproject.toml
	$(PIP) --editable .
	@touch $@
endif

$(VENV)/egret-torch: $(VENV)/egret-venv Makefile
	@if [ "$$(uname -s)" != Linux ]; then $(PIP) torch==$(TORCH_VERSION); else \
		echo "$(PIP) torch==$(TORCH_VERSION)+cpu"; \
		$(PIP) torch==$(TORCH_VERSION)+cpu 2>/dev/null || \
		$(PIP) --retries 1 --timeout 30 --extra-index-url $(TORCH_INDEX) torch==$(TORCH_VERSION)+cpu || \
		{ echo "egret: the tests need the CPU build of torch $(TORCH_VERSION), from $(TORCH_INDEX)" >&2; exit 1; }; fi
	@touch $@

$(VENV)/egret-test: $(VENV)/egret-base $(VENV)/egret-torch
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/egret-formal: $(VENV)/egret-base
	$(PIP) --editable '.[formal]'
	@touch $@

# The reference imports what trains networks.
$(VENV)/egret-docs: $(VENV)/egret-base $(VENV)/egret-torch
	$(PIP) --editable '.[docs]'
	@touch $@

# Icarus Verilog is the one tool that pip cannot bring.
icarus:
	@command -v iverilog >/dev/null && exit 0; \
	become=; [ "$$(id -u)" = 0 ] || become="sudo -n"; \
	if command -v apt-get >/dev/null && $$become true 2>/dev/null; then \
		echo "installing iverilog"; \
		$$become apt-get update -qq && \
		$$become env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends iverilog \
			>/dev/null; \
	fi; \
	command -v iverilog >/dev/null || { echo "egret: the tests need Icarus Verilog (iverilog); install it with" \
		"your package manager: apt install iverilog, dnf install iverilog, brew install icarus-verilog" >&2; exit 1; }
