"""A plugin of pytest that puts a contestant's loop under somebody's tests, and writes down what each of them did.

`COMPAT_CONTESTANT` is the loop. It is made the policy's, so that `asyncio.new_event_loop()`, `asyncio.run()` and the
fixtures of pytest's plugins make it; and `asyncio.SelectorEventLoop`, which some tests ask for by name.
`COMPAT_REPORT` is the folder for the report: a line of JSON a test, a file for each of xdist's processes.
With `COMPAT_AIOFASTNET=1` the loops get the transports of aiofastnet, else it is as if it were not installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from compat.contestants import loop_class

CRASHED = "killed its process"
CONTESTANT = os.environ["COMPAT_CONTESTANT"]
REPORT = Path(os.environ["COMPAT_REPORT"]) / f"{os.environ.get('PYTEST_XDIST_WORKER', 'main')}.jsonl"


def pytest_configure() -> None:
    """Before anything of the tests is imported."""
    base = loop_class(CONTESTANT)
    if os.environ.get("COMPAT_AIOFASTNET") == "1":
        import aiofastnet

        def new_event_loop() -> Any:
            return aiofastnet.patch_loop(base())
    else:
        sys.modules["aiofastnet"] = None  # type: ignore[assignment]
        new_event_loop = base  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Policy(asyncio.DefaultEventLoopPolicy):  # type: ignore[name-defined,misc]
            _loop_factory = staticmethod(new_event_loop)

        asyncio.set_event_loop_policy(Policy())
    if CONTESTANT != "asyncio":
        asyncio.SelectorEventLoop = base  # type: ignore[misc]
    loop = asyncio.new_event_loop()
    loop.close()
    if not isinstance(loop, base):
        raise pytest.UsageError(f"asyncio.new_event_loop() makes {loop}, not {CONTESTANT}")


class Reporter:
    """Writes what is final of a test: its call, or the phase that went wrong."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, str]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = self._seen.setdefault(report.nodeid, {"outcome": "passed", "text": ""})
        if report.failed:
            found |= {"outcome": "failed", "text": report.longreprtext}
        elif report.skipped and found["outcome"] == "passed":
            reason = getattr(report, "wasxfail", None)
            text = f"expected to fail: {reason}" if reason is not None else report.longrepr[2]  # type: ignore[index]
            found |= {"outcome": "skipped", "text": text}
        if report.when == "teardown":
            self._seen.pop(report.nodeid)
            with REPORT.open("a") as file:
                file.write(json.dumps({"test": report.nodeid, **found}) + "\n")


class Trouble:
    """Writes what no process that runs tests can: a file that cannot be imported, a test that killed its process."""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            _write(report.nodeid, report.longreprtext)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "???":  # so xdist says that the process is gone
            _write(report.nodeid, f"{CRASHED}: {report.longreprtext}")


def _write(test: str, text: str) -> None:
    with REPORT.open("a") as file:
        file.write(json.dumps({"test": test, "outcome": "failed", "text": text}) + "\n")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Each of xdist's processes writes down its own tests; the one that has them sent writes nothing."""
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(Trouble(), "compat-trouble")
    if hasattr(session.config, "workerinput") or not getattr(session.config.option, "numprocesses", None):
        session.config.pluginmanager.register(Reporter(), "compat-reporter")
