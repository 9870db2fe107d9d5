# make table1   sets up .venv and makes results/table1.csv on the embedded default
# make test     sets up .venv and runs the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: table1 test lint lock clean

table1: $(VENV)/installed
	snakemake results/table1.csv
	robustprune show results/table1.csv

test: $(VENV)/installed-development
	pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder --cov --cov-report=term

lint: $(VENV)/installed-development
	pre-commit run --all-files

# The locks name every package, so nothing is resolved at install time.
$(VENV)/installed: envs/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/installed-development: envs/development.lock $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/development.lock
	touch $@

lock:
	uv pip compile --universal --python-version 3.11 --no-header --no-annotate --upgrade pyproject.toml -o envs/requirements.lock
	uv pip compile --universal --python-version 3.11 --no-header --no-annotate --extra dev -c envs/requirements.lock pyproject.toml -o envs/development.lock

clean:
	rm -rf $(VENV)
