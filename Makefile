# Every target first runs `setup`, which installs what is missing and does nothing when all is up to date.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
DATA := data/fashion_mnist

.PHONY: setup check test demo format clean

setup: .setup/system .setup/python

# System packages: what FFCV compiles against, and real images for the demo and the tests.
.setup/system: scripts/install_system.sh
	bash scripts/install_system.sh
	mkdir -p .setup && touch $@

# The virtual environment; rebuilt packages only when pyproject.toml or the lock of versions changes.
.setup/python: pyproject.toml requirements.txt scripts/install_python.sh .setup/system
	PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/install_python.sh
	mkdir -p .setup && touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup
	$(BIN)/pytest -m "not slow"

demo: setup
	$(BIN)/python writers/fashion_mnist.py --out $(DATA)
	$(BIN)/fastdc sweep configs/demo.yaml --methods all
	$(BIN)/fastdc report $(DEMO)
	@echo "Results: $(DEMO)/store.sqlite (fastdc report $(DEMO) --format json), subsets with manifests: $(DEMO)/subsets"

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf runs data .setup
