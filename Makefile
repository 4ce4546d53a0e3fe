# `make serve` and `make test` do everything on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
INSTALLED_DEV := .venv/installed-dev

.PHONY: serve test check bench soak lock clean

serve: $(INSTALLED)
	$(BIN)/cargohold serve --host 127.0.0.1 --port 5000 --data ./data

test: check
	tests/e2e/install.sh
	$(BIN)/coverage erase
	tests/run.sh
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --skip-covered --fail-under=90

check: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_layers.py

bench: $(INSTALLED_DEV)
	tests/e2e/install.sh
	$(BIN)/python -m benchmarks

soak: $(INSTALLED_DEV)
	tests/e2e/install.sh
	$(BIN)/pytest -m soak --timeout 7200

# Exact versions and hashes of what pyproject.toml asks for.
lock: $(INSTALLED_DEV)
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 \
		pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 \
		pyproject.toml --group dev -o requirements-dev.lock

$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

$(INSTALLED_DEV): $(INSTALLED) requirements-dev.lock
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

clean:
	rm -rf .venv .cache build dist *.egg-info .coverage* .hypothesis
