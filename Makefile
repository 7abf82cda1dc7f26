# make demo: install what scoring needs, simulate a flood scene, score it.
# make test: add every extra (gpu and tensorrt aside) to the same environment, run the tests.
# make bento: build the service's bento into dist/bento.
# make check: lint, format, types, import contracts, README length.

VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
EXTRAS := cpu,tensorrt-rtx,triton,client,serve,train,batch,dev
ARGS ?=

.PHONY: demo test check format clean numpy2 bento

# The stamps lie inside the environment: a new or foreign environment has none, so its state is never trusted.
CORE := $(VENV)/.tocsin-core
FULL := $(VENV)/.tocsin-full
NUMPY2 := $(VENV)/.tocsin-numpy2

demo: $(CORE)
	$(BIN)/tocsin demo

test: $(FULL)
	$(BIN)/python -m pytest $(ARGS)

check: $(FULL)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	test "$$(wc -l < README.md)" -le 150

format: $(FULL)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What deploy/Dockerfile.cpu and .gpu make images of: the wheel with its models, and a pin for every package.
bento: $(FULL)
	$(BIN)/python deploy/build_bento.py --out dist/bento

# What users without the triton extra get: the tests under numpy 2. `make test` brings numpy 1.26 back.
numpy2: $(NUMPY2)
	$(BIN)/python -c 'import numpy; assert numpy.__version__ >= "2", numpy.__version__; print("numpy", numpy.__version__)'
	$(BIN)/python -m pytest --fast $(ARGS)

$(CORE): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 found: install one, or give PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt setuptools
	$(PIP) install -c constraints.txt --no-build-isolation -e ".[cpu]"
	touch $@

$(NUMPY2): $(CORE)
	$(PIP) install -c constraints.txt --no-build-isolation -e ".[cpu,client,serve,train,batch,dev]"
	rm -f $(FULL)
	touch $@

$(FULL): $(CORE) constraints-triton.txt
	$(PIP) install -c constraints-triton.txt --no-build-isolation -e ".[$(EXTRAS)]"
	$(PIP) check
	rm -f $(NUMPY2)
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
