# Every target first runs `setup`, which installs what is missing and does nothing when all is up to date.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The images of the demo and of artifacts: fashion_mnist (Debian's package), or imagenette, which is fetched.
SET ?= fashion_mnist
# Where these images lie already: the folder of the idx files, or a folder or archive of Imagenette.
SOURCE ?=
ifneq ($(words $(SET))$(filter-out fashion_mnist imagenette,$(SET)),1)
$(error SET=$(SET): expected fashion_mnist or imagenette)
endif

.PHONY: setup check test test-long test-gpu test-pythons gpu-bundle demo bench format clean

setup: $(VENV)/.ready

# The stamp lies inside the environment, so that deleting the environment is enough to make it anew.
$(VENV)/.ready: pyproject.toml constraints.txt scripts/install_system.sh scripts/install_python.sh
	PYTHON="$(PYTHON)" bash scripts/install_system.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/install_python.sh
	touch $@

# The tests open the report page in a browser. Without one they skip that.
$(VENV)/.browser: scripts/install_system.sh | $(VENV)/.ready
	bash scripts/install_system.sh browser
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A fixed hash seed, because the processes must agree on the names of tests, some of which print sets.
test: setup $(VENV)/.browser
	PYTHONHASHSEED=0 $(BIN)/pytest -m "not slow and not long and not timed" --durations=20 \
	  -n auto --maxprocesses 4 --dist loadfile
	$(BIN)/pytest -m timed

# The blocks of README and documentation, and the notebook, as a reader would run them.
# rethinkdc without its dependencies: it runs on what is here, and the others (torchaudio, datasets) are not read.
test-long: setup
	$(BIN)/pip install -qq --no-deps rethinkdc==0.3.2 || echo "test-long: rethinkdc is missing, its tests are skipped" >&2
	$(BIN)/pytest -m long --durations=20

# On a CUDA machine; elsewhere pytest reports every test as skipped.
test-gpu: setup
	$(BIN)/pytest -m gpu tests/gpu

# What benchmarks/gpu_check.py takes to a machine with a GPU and no network: wheels and betons, in build/gpu-bundle.
gpu-bundle: setup
	$(BIN)/python benchmarks/gpu_bundle.py $(if $(SOURCE),--source "$(SOURCE)")

# Every Python from 3.11 to 3.14 that is found here: half an hour and 6 GB of build/pythons for each.
test-pythons:
	bash scripts/test_pythons.sh

demo: setup
	$(BIN)/fastdc demo --set "$(SET)" $(if $(SOURCE),--source "$(SOURCE)")

# A quarter of an hour on a machine left alone. The peers are installed first; what cannot be is left out of the table.
bench: setup
	$(BIN)/pip install -qq --editable '.[bench]' --constraint constraints.txt || echo "bench: some peers are missing" >&2
	$(BIN)/python benchmarks/run_all.py

# The site, from docs/ and the package's docstrings. Any warning is an error. Only pip reads the network.
.PHONY: docs
docs: setup
	$(BIN)/pip install -qq --editable '.[docs]' --constraint constraints.txt
	$(BIN)/sphinx-build -q -W --keep-going -d build/doctrees docs site

# The observer is trained again: about five minutes for Fashion-MNIST, a quarter of an hour for Imagenette.
.PHONY: artifacts
artifacts: setup
	$(BIN)/python "writers/$(SET).py" --out "data/$(SET)" $(if $(SOURCE),--source "$(SOURCE)")
	$(BIN)/python scripts/artifacts.py check "$(SET)" --observer

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf runs data site build docs/methods docs/generated
