"""Other people's test suites and programs on this loop.

    python -m compat              both parts
    python -m compat suite        CPython's test.test_asyncio
    python -m compat programs     servers, clients and frameworks, run unchanged by `python -m epoll_loop`

What is installed decides which programs run: `pip install '.[compat]'` brings all of them.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from compat import programs, suite
from compat.contestants import NAMES


def main() -> int:
    """Do what the command line says; 0 if all is well."""
    parser = argparse.ArgumentParser(
        prog="python -m compat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=("suite", "programs"), help="by default both")
    parser.add_argument("--contestants", nargs="+", choices=NAMES, help="loops to run on")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="test modules, programs")
    parser.add_argument("--excluded", action="store_true", help="run what is excluded: does it pass now?")
    parser.add_argument("--verbose", action="store_true", help="whole tracebacks")
    options = parser.parse_args()
    console = Console()
    good = True
    if options.part != "programs":
        # uvloop was not made for these tests: ask for it by name. asyncio passes what is excluded, too.
        contestants = options.contestants or [name for name in NAMES if name != "uvloop"]
        if options.excluded and not options.contestants:
            contestants.remove("asyncio")
        good &= suite.run(console, contestants, options.only, options.excluded, options.verbose)
    if options.part != "suite":
        good &= programs.run(console, options.contestants or list(NAMES), options.only)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
