"""What the suites and programs did on each contestant, as a table on the terminal and as `RESULTS.md`."""

from __future__ import annotations

import platform
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from compat import exclusions
from compat.contestants import OURS

FILE = Path(__file__).parent / "RESULTS.md"
TITLES = {"epoll_loop-pure": "epoll_loop, pure"}


@dataclass
class Outcome:
    """What the tests of a suite, or of a part of it, did on one loop."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)  # test: traceback
    skips: dict[str, str] = field(default_factory=dict)  # test: why
    passes: set[str] = field(default_factory=set)
    second: set[str] = field(default_factory=set)  # those that passed when tried again, alone

    def add(self, test: str, outcome: str, text: str = "") -> None:
        """Count a test that has "passed", "failed", been "skipped" or run "elsewhere": on another loop."""
        self.counts[outcome] += 1
        if outcome == "passed":
            self.passes.add(test)
        elif outcome == "failed":
            self.failures[test] = text
        elif outcome == "skipped":
            self.skips[test] = text

    def merge(self, other: Outcome) -> None:
        """Add what another part did."""
        self.counts += other.counts
        self.failures |= other.failures
        self.skips |= other.skips
        self.passes |= other.passes
        self.second |= other.second

    def text(self) -> str:
        """Passed / failed / skipped."""
        return " / ".join(f"{self.counts[what]:,}" for what in ("passed", "failed", "skipped"))


@dataclass
class Row:
    """A suite, or a part of one: what its tests did on each contestant, and how many were left out for which reason."""

    suite: str
    part: str
    outcomes: dict[str, Outcome]
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Difference:
    """A test that a contestant fails and asyncio passes, and why that is so, if it is known."""

    contestant: str
    suite: str
    test: str
    text: str
    reason: str | None


def last_line(text: str) -> str:
    """The line of a traceback that says most, without the folders of this machine."""
    return re.sub(r"^/\S*/(?=[^/\s]+:\d+: )", "", text.strip().rpartition("\n")[2].strip())


def kind(text: str) -> str:
    """The exception of a traceback, without what it says of the single test."""
    found = re.findall(r"^(?:\S+:\d+: )?([\w.]*(?:[Ee]rror|Warning))(?::.*)?$", text, re.MULTILINE)
    return found[-1] if found else last_line(text)


class Report:
    """All rows, in the order in which they came."""

    def __init__(self, contestants: list[str]) -> None:
        self.contestants = contestants
        self.rows: list[Row] = []

    def collect(self, console: Console, rows: Callable[[Callable[[str], None]], Iterable[Row]]) -> None:
        """Take in rows as they come, and show them and what is under way; where nobody watches, a line for each."""
        table = Table("suite", "part", *self.contestants, title="passed / failed / skipped")

        def say(what: str) -> None:
            table.caption = f"{what} …"

        with Live(table, console=console, vertical_overflow="visible"):
            for row in rows(say):
                self.rows.append(row)
                cells = [self._cell(row, contestant) for contestant in self.contestants]
                table.add_row(row.suite, row.part, *cells)
                if not console.is_terminal:
                    print(row.suite, row.part, *(cell.plain for cell in cells), sep="\t", file=sys.stderr, flush=True)
            table.caption = None

    def _cell(self, row: Row, contestant: str) -> Text:
        outcome = row.outcomes.get(contestant)
        if outcome is None:
            return Text("-", "dim")
        style = "red" if outcome.failures else "green" if outcome.passes else "dim"
        return Text(outcome.text(), style)

    def suites(self) -> dict[str, Row]:
        """One row a suite: its parts together."""
        merged: dict[str, Row] = {}
        for row in self.rows:
            whole = merged.setdefault(row.suite, Row(row.suite, "", {}))
            whole.left_out += row.left_out
            for contestant, outcome in row.outcomes.items():
                whole.outcomes.setdefault(contestant, Outcome()).merge(outcome)
        return merged

    def differences(self) -> Iterator[Difference]:
        """What fails where asyncio passes, or has not been asked."""
        for suite, row in self.suites().items():
            asyncio = row.outcomes.get("asyncio", Outcome())
            for contestant, outcome in row.outcomes.items():
                for test, text in outcome.failures.items():
                    if contestant != "asyncio" and test not in asyncio.failures:
                        # The reasons are ours: uvloop may fail the same test for another one.
                        reason = exclusions.DIFFERENCES.get(suite, {}).get(test) if contestant in OURS else None
                        yield Difference(contestant, suite, test, text, reason)
                if contestant in OURS:
                    for test in sorted(asyncio.passes - outcome.passes - outcome.failures.keys()):
                        text = outcome.skips.get(test, "is not run")
                        reason = exclusions.DIFFERENCES.get(suite, {}).get(test)
                        yield Difference(contestant, suite, test, text, reason)

    def common(self) -> list[str]:
        """What fails on asyncio."""
        return [
            f"{suite}: {test}: {last_line(text)}"
            for suite, row in self.suites().items()
            for test, text in row.outcomes.get("asyncio", Outcome()).failures.items()
        ]

    def good(self) -> bool:
        """Whether the only differences of ours are those that have a reason, and something was there to pass."""
        ours = [outcome for row in self.rows for name, outcome in row.outcomes.items() if name in OURS]
        unknown = [one for one in self.differences() if one.contestant in OURS and one.reason is None]
        return not unknown and any(outcome.passes for outcome in ours)

    def details(self) -> Iterator[str]:
        """What stands below the table, in Markdown."""
        found = list(self.differences())
        for contestant in self.contestants:
            mine = [one for one in found if one.contestant == contestant]
            if contestant in OURS:
                yield f"## {TITLES.get(contestant, contestant)}: what fails, and passes on asyncio\n"
                yield from _listed(f"{one.suite}: {one.test}: {one.reason or last_line(one.text)}" for one in mine)
            elif contestant != "asyncio":
                yield f"## {contestant}: what fails, and passes on asyncio, by number of tests\n"
                texts = Counter((one.suite, kind(one.text)) for one in mine)
                yield from _listed(f"{count}, {suite}: {text}" for (suite, text), count in texts.most_common())
        yield "## What fails on asyncio\n"
        yield from _listed(self.common())
        yield "## Not run, by number of tests\n"
        yield from _listed(
            f"{count}, {suite}: {why}"
            for suite, row in self.suites().items()
            for why, count in sorted(row.left_out.items())
            if count
        )
        yield "## Skipped\n"
        yield from _listed(line for suite, row in self.suites().items() for line in _skipped(suite, row))
        yield "## Failed at first, and passed when tried again, alone\n"
        yield from _listed(
            f"{suite}: {test}, on {contestant}"
            for suite, row in self.suites().items()
            for contestant, outcome in row.outcomes.items()
            for test in sorted(outcome.second)
        )

    def markdown(self) -> str:
        """The whole as a document."""
        packages = sorted({name.lower() for name in _installed()})
        lines = [
            "# Other people's software on this loop\n",
            "Written by `make compat`: passed / failed / skipped. A program counts as one test.\n",
            f"CPython {platform.python_version()}, {platform.system()} {platform.release().partition('-')[0]};",
            ", ".join(f"{name} {metadata.version(name)}" for name in packages) + ".\n",
            "| suite | " + " | ".join(TITLES.get(name, name) for name in self.contestants) + " |",
            "|---" * (len(self.contestants) + 1) + "|",
        ]
        for suite, row in self.suites().items():
            cells = [row.outcomes[name].text() if name in row.outcomes else "" for name in self.contestants]
            lines.append(f"| {suite} | {' | '.join(cells)} |")
        return "\n".join([*lines, "", *self.details(), ""])


def _listed(lines: Iterable[str]) -> Iterator[str]:
    """A list, and what follows a heading where there is nothing to list."""
    items = [f"- {line}" for line in lines]
    yield "\n".join(items or ["Nothing."]) + "\n"


def _skipped(suite: str, row: Row) -> Iterator[str]:
    """Why, with the number of tests, for one of the contestants: they differ in nothing but what uvloop lacks."""
    outcomes = [row.outcomes[name] for name in ("epoll_loop", *row.outcomes) if name in row.outcomes]
    why = Counter(last_line(text) for outcome in outcomes[:1] for text in outcome.skips.values())
    yield from (f"{count}, {suite}: {text}" for text, count in sorted(why.items()))


def _installed() -> Iterator[str]:
    """The packages of the extra `compat` that are there."""
    for line in metadata.requires("epoll-loop") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and requirement.marker.evaluate({"extra": "compat"}):
            try:
                metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                continue
            yield requirement.name
