# `make demo` and `make test` set up everything they need, given Python 3.11 or newer.

# Where an environment has its programs.
BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)

VENV := .venv
VENV_NEWEST := .venv-newest
VENV_LOWEST := .venv-lowest
VENV_READERS := .venv-readers
VENV_WHEEL := .venv-wheel

# The first command that runs, is new enough (3.$(1)) and can create an environment. Each is tried,
# because the shim of a version manager may be on PATH for a version that is not active.
first_usable = $(shell for python in $(2); do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, $(1)))' \
	2>/dev/null && echo "$$python" && break; done)

PYTHON ?= $(call first_usable,11,python3.13 python3.12 python3.11 python3 python)
PYTHON_NEWEST ?= $(call first_usable,12,python3.13 python3.12 \
	$(wildcard $(HOME)/.pyenv/versions/3.13.*/bin/python $(HOME)/.pyenv/versions/3.12.*/bin/python))

# The lowest versions have wheels for the lowest Python.
PYTHON_LOWEST ?= $(call first_usable,11,python3.11 python3 python)

TEST_EXTRA := dev
# Prints errors only and never prompts.
PIP_INSTALL := -m pip --disable-pip-version-check --no-input -qq install
CHECK = $(VENV)/$(BIN)/python -m check_jsonschema -q --builtin-schema vendor.$(1)
PYTEST := -m pytest -n 2 --dist loadfile  # servers and clusters start once per file

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo catalogs test test-slow test-gpu test-lowest test-newest test-wheel test-readers lint types format docs bench bench-newest soak clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' Makefile | awk -F@ '{printf "%-20s%s\n", $$1, $$2}'

demo: $(VENV)/.installed-all ## write, open, show, project and export a small collection
	@$(VENV)/$(BIN)/python docs/demo.py

catalogs: $(VENV)/.installed-all ## write small collections that the catalogs in catalogs/ open, and open each
	@$(VENV)/$(BIN)/python catalogs/make_data.py

test: $(VENV)/.installed-$(TEST_EXTRA) ## run all tests (ARGS="-k pattern" for some)
	$(VENV)/$(BIN)/python $(PYTEST) $(ARGS)

test-slow: $(VENV)/.installed-dev ## run the long checks
	$(VENV)/$(BIN)/python $(PYTEST) -m slow $(ARGS) || test $$? -eq 5  # 5: no tests

test-gpu: $(VENV)/.installed-dev ## run the checks that need CuPy and a GPU
	$(VENV)/$(BIN)/python -m pytest -m gpu $(ARGS) || test $$? -eq 5

test-readers: ## check OME-Zarr with napari's reader and others, the plugin of napari, and the comparison with other packages
	@$(MAKE) --no-print-directory $(VENV_READERS)/.installed-readers VENV=$(VENV_READERS)
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(VENV_READERS)/$(BIN)/python -m pytest -p pytest_timeout \
		tests/test_ome_zarr_readers.py tests/test_napari.py \
		"tests/test_docs.py::test_a_page_runs_from_top_to_bottom[docs/comparison.md]" \
		$(ARGS)  # napari's own pytest plugin warns when it is loaded

test-newest: ## run all tests on Python 3.13 or 3.12 with the newest tifffile, if available
	@python="$(PYTHON_NEWEST)"; if [ -n "$$python" ]; then \
		$(MAKE) --no-print-directory test PYTHON="$$python" VENV=$(VENV_NEWEST) TEST_EXTRA=test; \
	else echo "test-newest: skipped, because neither python3.13 nor python3.12 was found"; fi

test-lowest: ## run all tests with the lowest versions that pyproject.toml allows, and the package with its base dependencies alone (10 minutes and more; not in .ci/run)
	@test -x $(VENV_LOWEST)/$(BIN)/python || $(PYTHON_LOWEST) -m venv $(VENV_LOWEST)
	@$(VENV_LOWEST)/$(BIN)/python $(PIP_INSTALL) uv
	$(VENV_LOWEST)/$(BIN)/python -m uv pip install -q --python $(VENV_LOWEST)/$(BIN)/python \
		--resolution lowest-direct --editable ".[test]"
	$(VENV_LOWEST)/$(BIN)/python $(PYTEST) $(ARGS)
	rm -rf $(VENV_LOWEST)/bare && $(PYTHON_LOWEST) -m venv $(VENV_LOWEST)/bare
	$(VENV_LOWEST)/$(BIN)/python -m uv pip install -q --python $(VENV_LOWEST)/bare/$(BIN)/python \
		--resolution lowest-direct -r pyproject.toml
	$(VENV_LOWEST)/$(BIN)/python -m uv pip install -q --python $(VENV_LOWEST)/bare/$(BIN)/python --no-deps .
	cd / && $(CURDIR)/$(VENV_LOWEST)/bare/$(BIN)/python $(CURDIR)/tests/check_wheel.py --checkout $(CURDIR)

test-wheel: $(VENV)/.installed-$(TEST_EXTRA) ## build and check wheel and sdist, use the wheel with its base dependencies alone, then with [s3]
	rm -rf dist $(VENV_WHEEL)
	$(PYTHON) -m venv $(VENV_WHEEL)/build && $(PYTHON) -m venv $(VENV_WHEEL)/bare
	@$(VENV_WHEEL)/build/$(BIN)/python $(PIP_INSTALL) build twine
	$(VENV_WHEEL)/build/$(BIN)/python -m build . > /dev/null
	$(VENV_WHEEL)/build/$(BIN)/python -m twine check --strict dist/*
	@$(VENV_WHEEL)/bare/$(BIN)/python $(PIP_INSTALL) dist/*.whl
	cd / && $(CURDIR)/$(VENV_WHEEL)/bare/$(BIN)/python $(CURDIR)/tests/check_wheel.py --checkout $(CURDIR)
	@$(VENV_WHEEL)/bare/$(BIN)/python $(PIP_INSTALL) "$$(ls $(CURDIR)/dist/*.whl)[s3]"
	cd / && $(CURDIR)/$(VENV)/$(BIN)/python $(CURDIR)/tests/with_s3_server.py \
		$(CURDIR)/$(VENV_WHEEL)/bare/$(BIN)/python $(CURDIR)/tests/check_wheel.py \
		--checkout $(CURDIR) --s3

soak: $(VENV)/.installed-dev ## attack the package for 5 minutes, or ARGS="MINUTES [SEED]"
	$(VENV)/$(BIN)/python tests/soak.py $(ARGS)

lint: $(VENV)/.installed-dev ## check style and format, and the files of GitHub, of pre-commit and of citation
	$(VENV)/$(BIN)/python -m ruff check .
	$(VENV)/$(BIN)/python -m ruff format --check .
	$(VENV)/$(BIN)/python -m pre_commit validate-config
	$(call CHECK,github-workflows) .github/workflows/*.yml
	$(call CHECK,github-issue-config) .github/ISSUE_TEMPLATE/config.yml
	$(call CHECK,github-issue-forms) $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(call CHECK,citation-file-format) CITATION.cff

types: $(VENV)/.installed-dev ## check types strictly
	$(VENV)/$(BIN)/python -m mypy

format: $(VENV)/.installed-dev ## format the code
	$(VENV)/$(BIN)/python -m ruff check --fix-only --quiet .
	$(VENV)/$(BIN)/python -m ruff format .

docs: $(VENV)/.installed-docs ## build the documentation site in build/docs; a warning is an error
	$(VENV)/$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

bench: $(VENV)/.installed-bench ## run the benchmarks, write docs/benchmarks.md (ARGS="sum plane" for some)
	$(VENV)/$(BIN)/python -m benchmarks $(ARGS)

bench-newest: ## the same on Python 3.13 or 3.12, if available; the report has the figures of both
	@python="$(PYTHON_NEWEST)"; if [ -n "$$python" ]; then \
		$(MAKE) --no-print-directory bench PYTHON="$$python" VENV=$(VENV_NEWEST); \
	else echo "bench-newest: skipped, because neither python3.13 nor python3.12 was found"; fi

clean: ## remove environments, caches and the output of the demo
	rm -rf $(VENV) $(VENV_LOWEST) $(VENV_NEWEST) $(VENV_READERS) $(VENV_WHEEL) demo_output build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp file marks the installation as done until pyproject.toml changes.
$(VENV)/.installed-%: pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing intake-tiffstack[$*] into $(VENV) (minutes the first time) ..."
	@$(VENV)/$(BIN)/python $(PIP_INSTALL) --upgrade --editable ".[$*]"
	@touch $@

$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv was found: install one, or set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
