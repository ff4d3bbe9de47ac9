.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-lowest lint types cov fuzz bench docs site licenses release faults soak \
	check clean
PYTHON ?= python3
# The oldest Python that is supported; older releases have no wheels for the newest ones.
LOWEST_PYTHON ?= python3.11
BIN := .venv/bin
DEMO := demo-output

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "roicli needs Python 3.11 or later; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --editable '.[native]'
	@touch $@

.venv/.developing: pyproject.toml .venv/.installed
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' # the first that knows groups
	$(BIN)/python -m pip install --quiet --group dev --editable '.[native,figures,report]'
	@touch $@

install: .venv/.installed  ## make .venv with the tool in it: .venv/bin/roicli

demo: install  ## run align and pool on the sample data and show the tables
	@mkdir -p $(DEMO)
	$(BIN)/roicli align sample_data/text_fpn.h5::p3 sample_data/text_rois.npy \
		--output $(DEMO)/text_fpn.align.h5 --force --rows 10
	$(BIN)/roicli pool sample_data/text_fpn.h5::p3 sample_data/text_rois.npy \
		--output $(DEMO)/text_fpn.pool.h5 --force --rows 10

# tests/conftest.py says which tests run in one process, and which come first.
PYTEST := python -m pytest --quiet --numprocesses auto --max-worker-restart 0 --no-loadscope-reorder

test: .venv/.developing  ## prove everything once, in three minutes on two cores
	$(BIN)/$(PYTEST) -m 'not full'

test-all: .venv/.developing  ## the full products of options, more examples, and what takes long
	$(BIN)/python -m pip install --quiet --group faults
	HYPOTHESIS_PROFILE=full $(BIN)/$(PYTEST)

.venv-lowest/.installed: pyproject.toml
	@command -v $(LOWEST_PYTHON) >/dev/null || \
		{ echo "the lowest versions need Python 3.11; name it with: make LOWEST_PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	rm -rf .venv-lowest
	$(LOWEST_PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct \
		--group dev --editable '.[native,figures,report]'
	@touch $@

test-lowest: .venv-lowest/.installed  ## run the tests with the lowest versions that pyproject.toml allows
	.venv-lowest/bin/$(PYTEST) -m 'not full'

lint: .venv/.developing  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/zizmor --quiet --offline .
	$(BIN)/hadolint docker/*.Dockerfile

types: .venv/.developing  ## check types
	$(BIN)/mypy

cov: .venv/.developing  ## run the tests and measure branch coverage
	$(BIN)/$(PYTEST) --cov --cov-branch --cov-report=term --cov-fail-under=95

fuzz: .venv/.developing  ## 20,000 damaged inputs of each kind: npy, archives, RoIs, HDF5, parts, ONNX
	$(BIN)/python -m pip install --quiet --group fuzz
	$(BIN)/python -m fuzz

docs: .venv/.developing  ## make what is generated: pictures, worked examples, pages, schemas, the kernels' assembly
	$(BIN)/python docs/make_figures.py
	$(BIN)/python docs/make_rosetta.py
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_schemas.py
	$(BIN)/python docs/make_texts.py
	$(BIN)/python docs/make_kernels.py
	$(BIN)/python docs/make_screens.py

site: .venv/.developing  ## the documentation as a site in site/, any warning an error
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python docs/make_reference.py --check
	$(BIN)/python docs/make_schemas.py --check
	$(BIN)/python -m sphinx --builder html --nitpicky --fail-on-warning --keep-going --quiet docs site

licenses: .venv/.developing  ## rewrite docs/licenses.md from what is installed
	$(BIN)/python docs/make_licenses.py

bench: .venv/.installed  ## measure against other libraries and rewrite docs/benchmarks.md
	$(BIN)/python -m pip install --quiet --group bench --editable '.[native]'
	cd benchmarks && ../$(BIN)/python run.py

release: .venv/.developing  ## build the packages, check them, install them in every way, run the README from the wheel
	$(BIN)/python -m pip install --quiet --group release
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/pyroma --min 8 .
	$(BIN)/python -m tests.release.install dist/*.whl

faults: .venv/.developing  ## stop runs at 200 random moments and when they name files, resume through 20 kills, kill 50 workers, S3
	$(BIN)/python -m pip install --quiet --group faults
	$(BIN)/python -m pytest --quiet tests/faults/test_s3.py
	$(BIN)/python -m tests.faults.interrupt
	$(BIN)/python -m tests.faults.kill_workers

soak: .venv/.developing  ## 100,000 blocks and a run of ten minutes: memory, files, threads stay flat
	$(BIN)/python -m tests.faults.soak

check: lint types test  ## what to run before a commit; continuous integration runs test-all too

clean:  ## remove what the targets above made
	rm -rf .venv .venv-lowest $(DEMO) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
