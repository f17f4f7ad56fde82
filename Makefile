# make demo and make test set everything up themselves, in .venv, from the lock files.
PYTHON ?= python3.11
BIN := .venv/bin
# On CPUs, large buffers are allocated anew in every step: huge pages spare most of the page faults.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: help venv demo test test-slow lint format clean

help:
	@echo "make venv       the environment for everything below, in .venv"
	@echo "make demo       bundled speech -> data set -> GAR and NAR -> demo/index.html (about 7 minutes on 2 cores)"
	@echo "make test       the tests, under 10 minutes on 2 cores"
	@echo "make test-slow  random kills and long runs, under 45 minutes"
	@echo "make lint       ruff, lint and format"

.venv/base: requirements.lock setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# encodec asks for torchaudio, which it needs for reading files alone and which does not fit every torch; of resemblyzer the
# weights alone are wanted: hence --no-deps.
.venv/test: .venv/base requirements-test.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps encodec==0.1.1 resemblyzer==0.1.4
	touch $@

venv: .venv/test

demo: .venv/base
	$(BIN)/ellav demo demo

test: .venv/test
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --durations=10 --cov --cov-report=term

test-slow: .venv/test
	$(BIN)/python -m pytest -m slow --durations=10

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo build *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage*
