# make test          ruff, mypy, and pytest on both builds and on the other back ends: make lint, make pytest
# make smoke         some tests of each kind on both builds, with as little installed as they need
# make wheel         an sdist and a wheel in dist/, checked, and the tests on the wheel away from the checkout
# make sanitize      the tests on extensions with the sanitizers of the C compiler
# make soak          ten minutes of everything at once, with faults
# make network       100 MB both ways through a network that loses and reorders packets
# make bench         side by side with asyncio and uvloop
# make bench-serve   serve() next to asyncio's protocols and to bare C
# make instructions  instructions an operation, counted by valgrind
# make conformance   CPython's own tests of asyncio on both builds, next to asyncio
# make compat        the same, aiohttp's own tests and other people's programs; writes compat/RESULTS.md
# make clean
#
# PYTHON=python3.13 chooses the interpreter, VENV=folder where its environment is made, ARGS=… is handed on.

PYTHON ?= python3
VENV ?= .venv
# The pure build has its own run of the tests, and would be a lie in a benchmark: a failed compile is an error here.
export EPOLL_LOOP_REQUIRE_EXT ?= 1

python := $(VENV)/bin/python
pip := $(python) -m pip --disable-pip-version-check --quiet install --no-compile
sources := pyproject.toml setup.py $(wildcard epoll_loop/*.py epoll_loop/*/*.py epoll_loop/*/*.px[di] epoll_loop/*/*.pyx)

.PHONY: test lint pytest pytest-pure pytest-compiled pytest-backends smoke wheel sanitize soak network bench bench-serve instructions \
	conformance compat clean
.DELETE_ON_ERROR:

test: lint pytest

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# The last for all tests only: what ARGS selects may not be among those that it runs.
pytest: pytest-pure pytest-compiled $(if $(ARGS),,pytest-backends)

# The tests of the benchmarks start the builds by themselves.
pytest-pure: $(VENV)/.test
	EPOLL_LOOP_PURE=1 $(python) -m pytest -n 2 --ignore-glob 'tests/test_bench*' $(ARGS)

pytest-compiled: $(VENV)/.test
	$(python) -m pytest -n 2 $(ARGS)

# What waits for the kernel, on the back ends that Linux does not choose: kqueue is a double of it.
storms := tests/test_{descriptor_limit,random_programs,stale_events}.py
waits := tests/transports tests/process tests/core/test_{interrupts,poller,reactor,reuse,wakeups}.py \
	tests/net/test_{connect,datagrams,listen,pipes,server,sockets,sockets_shared,sockets_waiting}.py $(storms)

pytest-backends: SHELL := bash
pytest-backends: $(VENV)/.test
	EPOLL_LOOP_POLLER=kqueue $(python) -m pytest -n 2 $(waits) $(ARGS)
	EPOLL_LOOP_POLLER=kqueue EPOLL_LOOP_PURE=1 $(python) -m pytest -n 2 tests/transports $(ARGS)
	EPOLL_LOOP_POLLER=poll $(python) -m pytest -n 2 tests/transports tests/core/test_reuse.py $(storms) $(ARGS)
	EPOLL_LOOP_POLLER=select EPOLL_LOOP_PURE=1 $(python) -m pytest -n 2 tests/transports tests/core/test_reuse.py $(storms) $(ARGS)

smoke:
	.ci/smoke $(PYTHON) $(VENV) $(ARGS)

wheel:
	$(PYTHON) .ci/wheel.py $(ARGS)

# docs/reliability.md says what each of these shows.
sanitize soak network: $(VENV)/.test
	$(python) -m reliability.$@ $(ARGS)

bench: $(VENV)/.bench
	$(python) -m benchmarks $(ARGS)

bench-serve: $(VENV)/.bench
	$(python) -m benchmarks.serving $(ARGS)

instructions: $(VENV)/.bench
	$(python) -m benchmarks.instructions $(ARGS)

conformance: $(VENV)/.conformance
	$(python) -m compat suite $(ARGS)

compat: $(VENV)/.compat
	$(python) -m compat $(ARGS)

# One environment for all; a stamp for each extra says that it was installed after the last change of a source. The
# install is editable: the extensions are built in place, under names that differ from one Python to the next.
$(addprefix $(VENV)/.,test bench conformance compat): $(VENV)/.%: $(sources)
	$(PYTHON) -m venv $(VENV)
	$(pip) --editable '.[$*]'
	touch $@

# What reads the sources needs nothing built.
$(VENV)/.lint: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(python) .ci/requirements.py lint | $(pip) -r /dev/stdin
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info benchmarks/.build compat/.cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f epoll_loop/*/*.so
