"""Other people's test suites and programs on this loop, next to asyncio and uvloop.

    python -m compat              everything; writes RESULTS.md
    python -m compat suite        CPython's test.test_asyncio
    python -m compat aiohttp      aiohttp's own tests
    python -m compat programs     servers, clients and frameworks

What is installed decides which programs run: `pip install '.[compat]'` brings all of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markdown import Markdown

from compat import aiohttp_suite, programs, results, suite
from compat.contestants import NAMES, OURS

PARTS = ("suite", "aiohttp", "programs")


def rows(options: argparse.Namespace, contestants: list[str], say: Callable[[str], None]) -> Iterator[results.Row]:
    """The rows of the parts that were asked for."""
    if "suite" in options.parts:
        yield from suite.rows(contestants, options.only, options.quick, options.excluded, say)
    if "aiohttp" in options.parts:
        yield from aiohttp_suite.rows(contestants, options.quick, say)
    if "programs" in options.parts:
        yield from programs.rows(contestants, options.only, say)


def main() -> int:
    """Do what the command line says; 0 if all is well."""
    parser = argparse.ArgumentParser(
        prog="python -m compat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--contestants", nargs="+", choices=NAMES, help="loops to run on, by default all there are")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="test modules, programs")
    parser.add_argument("--quick", action="store_true", help="a part of the suites, on the compiled build alone")
    parser.add_argument("--excluded", action="store_true", help="run what is excluded of `suite`: does it pass now?")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    whole = not (options.parts or options.contestants or options.only or options.quick or options.excluded)
    if options.excluded:
        options.parts = ["suite"]
    options.parts = options.parts or PARTS
    contestants = options.contestants or list(NAMES[3:] if options.quick else OURS if options.excluded else NAMES)
    if not options.contestants and "uvloop" in contestants and importlib.util.find_spec("uvloop") is None:
        contestants.remove("uvloop")

    report = results.Report(contestants)
    report.collect(Console(), lambda say: rows(options, contestants, say))
    if options.excluded:
        for row in report.rows:
            for contestant, outcome in row.outcomes.items():
                print(*(f"{contestant} passes {row.part}.{test}" for test in sorted(outcome.passes)), sep="\n")
        return 0 if not any(outcome.passes for row in report.rows for outcome in row.outcomes.values()) else 1
    Console().print(Markdown("\n".join(report.details())))
    if whole:
        results.FILE.write_text(report.markdown())
    return 0 if report.good() else 1


if __name__ == "__main__":
    sys.exit(main())
