# Two commands for a fresh clone with Python 3.11 or newer, and nothing else: `make demo`, `make test`.
# Both build what they need in .venv, from constraints.txt, and build it again only when that changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# Of the core's tests: the environment, what it may install, and the interpreters that `make pythons` looks for.
CORE := $(VENV)/core
CONSTRAINTS := constraints.txt
EXTRAS := cloud,tables
PYTHONS := python3.11 python3.12 python3.13 python3.14
WHEEL = build/$(notdir $(CORE))
# Many tests begin processes: where the environment forbids bytecode, each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint core pythons lowest all-tests resume docs dist clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/adaptive-sampler demo $(ARGS)

# The whole suite comes last, so that its closing line is the last line printed.
test: lint core all-tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The wheel, away from the sources, in an environment that has the core's dependencies and no framework: what is not in
# the wheel, or needs torch, fails here, whatever the values are: so each test has a covering of its cases, and few of
# Hypothesis's examples. What cannot run there is skipped, and runs in the whole suite below. So do files whose facts are the
# same there: of what sources say, and of processes that compile kernels of a copy, or with a changed Numba.
core: $(CORE)/.core
	rm -rf $(WHEEL)
	$(CORE)/bin/pip wheel -q --no-deps --wheel-dir $(WHEEL) .
	$(CORE)/bin/pip install -q --no-deps --force-reinstall $(WHEEL)/adaptive_sampler-*.whl
	cp -r tests benchmarks README.md docs pyproject.toml $(WHEEL)
	cd $(WHEEL) && HYPOTHESIS_PROFILE=few $(abspath $(CORE))/bin/python -m pytest -q -n $(WORKERS) --dist worksteal -p no:cacheprovider --covering \
		--ignore=tests/torch --ignore=tests/webdataset --ignore=tests/benchmarks --ignore=tests/resume \
		--ignore-glob='tests/kernels/test_kernel_cache*.py' --ignore=tests/kernels/test_numba_names.py \
		--ignore=tests/test_architecture.py --ignore=tests/test_rules.py --ignore=tests/test_imports.py \
		--ignore=tests/test_rooms.py --ignore=tests/test_docs.py --ignore=tests/test_release.py

# The same with every Python that answers, each in an environment of its own: `make pythons PYTHONS="python3.12 /opt/python/3.13/bin/python3"`
# names them. All are tried before a failure ends it.
pythons:
	@for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || { absent="$$absent $$python"; continue; }; \
		$(MAKE) core PYTHON=$$python CORE=$(VENV)/python$$version && passed="$$passed $$version" || failed="$$failed $$version"; \
	done; \
	echo "Pythons that passed:$${passed:- none}; failed:$${failed:- none}; not here, so skipped:$${absent:- none}"; \
	test -n "$$passed" -a -z "$$failed"

# The same with the lowest versions that pyproject.toml allows. Those of torch and of frameworks are not among them.
lowest:
	$(MAKE) core CORE=$(VENV)/lowest CONSTRAINTS=constraints-lowest.txt EXTRAS=cloud,tables,report

all-tests: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

# Every combination of loaders, workers, ranks and plans, stopped after every batch, and the full examples killed at random
# moments: hours. The suite runs a covering of them.
resume: $(VENV)/.dev
	RESUME=all $(BIN)/python -m pytest -q -n $(WORKERS) tests/resume tests/torch/examples

# The documentation as a site, in site/: a page that links to what is not there, or a name without a docstring, fails it.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q
	@echo "site/index.html is the first page; $(BIN)/python -m http.server -d site serves it, with the search."

NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"This is Python {sys.version.split()[0]}; 3.11 or newer is needed: make PYTHON=python3.11")'

# What is released, in dist/: the wheel is built from the source distribution, and so that one is whole.
dist: $(VENV)/release/.release
	rm -rf dist
	$(VENV)/release/bin/python -m build
	$(VENV)/release/bin/twine check --strict dist/*
	tar -tzf dist/adaptive_sampler-*.tar.gz | grep -cE '^[^/]*/(README.md|LICENSE|CHANGELOG.md)$$' | grep -qx 3
	@ls -l dist

$(BIN)/python:
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e ".[torch,report]"
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/.demo

$(CORE)/.core: pyproject.toml $(CONSTRAINTS)
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv $(CORE)
	$(CORE)/bin/pip install -q -c constraints.txt hypothesis pytest pytest-xdist
	$(CORE)/bin/pip install -q -c $(CONSTRAINTS) ".[$(EXTRAS)]" rich
	touch $@

$(VENV)/release/.release: constraints.txt
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)/release
	$(VENV)/release/bin/pip install -q -c constraints.txt build twine
	touch $@

clean:
	rm -rf $(VENV) build dist site demo-output .mypy_cache .pytest_cache .ruff_cache
