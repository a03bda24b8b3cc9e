# The two commands of a newcomer: `make demo` and `make test`. Both install into .venv from requirements.lock first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test lint install clean lock reproduce bench-gpu gpu-pack

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

demo: install
	$(BIN)/tutelage demo --out runs/demo

lint: install
	$(BIN)/ruff check src tests benchmarks examples deploy
	$(BIN)/ruff format --check src tests benchmarks examples deploy
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2
	ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m trains

lock: install
	$(BIN)/python -m pip install --quiet --upgrade -e ".[dev]"
	$(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | sed "s/+cpu//; /^#/d" > requirements.lock

clean:
	rm -rf .venv build dist src/*.egg-info

# A paper's table: make reproduce NAME=amal ARGS="--seeds 10"
reproduce: install
	$(BIN)/python -m benchmarks $(NAME) $(ARGS)

# On a machine with an accelerator, again and again until nothing is left to do: make bench-gpu ARGS="--minutes 7"
bench-gpu: install
	$(BIN)/python -m benchmarks.gpu run $(ARGS)

# The same for a machine that has no network: unpack build/gpu-pack.tar.gz there, and run bench-gpu.sh
gpu-pack: install
	$(BIN)/python -m benchmarks.gpu pack $(ARGS)
