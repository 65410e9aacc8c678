"""Run a module of CPython's `test.test_asyncio` on a contestant's loop, and report each test as a line of JSON.

The child of `suite.py`: `python -m compat.suite_child CONTESTANT MODULE`, with the tests to run on stdin, one a
line; without any it says which tests there are.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import unittest
from collections.abc import Iterator
from typing import Any

from compat.redirect import Made, load


def cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """The single tests of a suite."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from cases(item)
        else:
            yield item


def short_id(case: unittest.TestCase) -> str:
    """`Class.test_name`, without the module."""
    return f"{type(case).__qualname__.rpartition('.')[2]}.{case._testMethodName}"


class Result(unittest.TestResult):
    """Writes what happens to each test as it happens, so that the parent knows which one hangs."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self._out = out
        self._before = 0, 0
        self._outcome, self._text = "", ""

    def say(self, **words: Any) -> None:
        os.write(self._out, json.dumps(words).encode() + b"\n")

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self._before = Made.count, Made.simulated
        self._outcome, self._text = "passed", ""
        self.say(started=short_id(test))

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        count, simulated = self._before
        ours = Made.count > count and Made.simulated == simulated
        self.say(test=short_id(test), outcome=self._outcome, text=self._text, ours=ours)

    def _bad(self, text: str) -> None:
        self._outcome, self._text = "failed", text

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        if not isinstance(test, unittest.TestCase):  # setUpClass, setUpModule
            self.say(test=str(test), outcome="failed", text=self.errors[-1][1], ours=True)
        self._bad(self.errors[-1][1])

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._bad(self.failures[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            bad = self.failures if issubclass(err[0], test.failureException) else self.errors
            self._bad(bad[-1][1])

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        if not isinstance(test, unittest.TestCase):
            self.say(test=str(test), outcome="skipped", text=reason, ours=False)
        if self._outcome != "failed":  # by another subtest
            self._outcome, self._text = "skipped", reason

    def addExpectedFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addExpectedFailure(test, err)

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        super().addUnexpectedSuccess(test)
        self._bad("unexpected success")


def main() -> None:
    """Run the module named on the command line."""
    contestant, name = sys.argv[1:]
    wanted = set(sys.stdin.read().split())
    out = os.dup(1)
    os.dup2(2, 1)  # what tests print is no report
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs with it ignored

    try:
        module = load(contestant, name)
    except unittest.SkipTest:
        return  # for another operating system
    found = list(cases(unittest.defaultTestLoader.loadTestsFromModule(module)))
    result = Result(out)
    if wanted:
        unittest.TestSuite(case for case in found if short_id(case) in wanted).run(result)
    else:
        result.say(tests=[short_id(case) for case in found])


if __name__ == "__main__":
    main()
