# Every target first runs `setup`, which installs what is missing and does nothing when all is up to date.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
DATA := data/fashion_mnist
# Where the idx files of Fashion-MNIST lie, if not where Debian puts them.
SOURCE ?=

.PHONY: setup check test test-gpu demo bench format clean

setup: $(VENV)/.ready

# The stamp lies inside the environment, so that deleting the environment is enough to make it anew.
$(VENV)/.ready: pyproject.toml constraints.txt scripts/install_system.sh scripts/install_python.sh
	PYTHON="$(PYTHON)" bash scripts/install_system.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/install_python.sh
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup
	$(BIN)/pytest -m "not slow" --durations=20

# On a CUDA machine; elsewhere every test is skipped, and pytest says so.
test-gpu: setup
	$(BIN)/pytest -m gpu tests/gpu

demo: setup
	$(BIN)/python writers/fashion_mnist.py --out $(DATA) $(if $(SOURCE),--source $(SOURCE))
	$(BIN)/fastdc sweep configs/demo.yaml
	$(BIN)/fastdc report $(DEMO) --html $(DEMO)/page.html > /dev/null
	@echo "Rows again: $(BIN)/fastdc report $(DEMO); subsets with their manifests: $(DEMO)/subsets"

# A quarter of an hour on a machine left alone. The peers are installed first; what cannot be is left out of the table.
bench: setup
	$(BIN)/pip install -qq --editable '.[bench]' --constraint constraints.txt || echo "bench: some peers are missing" >&2
	$(BIN)/python benchmarks/run_all.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf runs data
