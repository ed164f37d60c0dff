# make demo | test | lint | bench | models: each makes .venv when it is missing and installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint bench models clean

demo: $(VENV)/.installed-base
	rm -rf demo-output
	$(BIN)/python examples/demo.py

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=benchmarks $(BIN)/mypy examples tests benchmarks/run.py benchmarks/scale.py benchmarks/multi30k.py
	$(BIN)/hadolint Dockerfile

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/run.py

# Training wants the development data: make models DATA=folder. It writes into runs/, to be looked at before it ships.
DATA ?= ../shared/data
models: $(VENV)/.installed-dev
	mkdir -p runs
	$(BIN)/python -m bisift.models.train lexical --data $(DATA) --output runs/lexical.npz
	$(BIN)/python -m bisift.models.train detector --data $(DATA) --lexical runs/lexical.npz \
		--vectors runs/lexical.vectors.npz --output runs/detector.onnx
	$(BIN)/python -m bisift.models.train quality --data $(DATA) --lexical runs/lexical.npz --output runs/quality.onnx
	$(BIN)/python -m bisift.models.train typical --data $(DATA) --lexical runs/lexical.npz --output runs/typical.json

clean:
	rm -rf build dist *.egg-info demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "bisift needs Python 3.11 or newer: make PYTHON=python3.12 ..."'
	$(PYTHON) -m venv $(VENV)

# What is installed is remembered by an empty file, so that the second run starts at once.
$(VENV)/.installed-base: setup.py pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing bisift into $(VENV) (about a minute the first time)"
	$(INSTALL) --editable . Django
	touch $@

$(VENV)/.installed-dev: setup.py pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing bisift, Beam, torch and the test tools into $(VENV) (minutes the first time)"
	$(INSTALL) --editable '.[all,dev]'
	touch $(VENV)/.installed-base $@
