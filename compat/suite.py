"""CPython's own tests of asyncio, `test.test_asyncio` of the running Python, on each contestant's loop.

Each module runs in a process of its own. A test that made no loop of the contestant says nothing about it and is
not counted; one that hangs is ended, counts as failed, and the rest goes on in a new process.
"""

from __future__ import annotations

import importlib.util
import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from compat import exclusions
from compat.contestants import environment

HANG = 60.0  # seconds in which a test has to end; the slowest takes about a tenth of it


@dataclass
class Outcome:
    """What one module's tests did on one loop."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)  # test: traceback
    passes: list[str] = field(default_factory=list)

    def add(self, report: dict[str, Any]) -> None:
        """Count what the child says about one test."""
        outcome = report["outcome"]
        if outcome == "failed":
            self.failures[report["test"]] = report["text"]
        elif not report["ours"]:
            outcome = "elsewhere"
        elif outcome == "passed":
            self.passes.append(report["test"])
        self.counts[outcome] += 1

    def cell(self) -> str:
        """The outcome as a cell of the table."""
        failed = self.counts["failed"]
        if failed:
            return f"[red]{self.counts['passed']}, {failed} failed[/]"
        skipped = f"[dim]{self.counts['skipped']} skipped, [/]" if self.counts["skipped"] else ""
        return f"{skipped}[green]{self.counts['passed']}[/]" if self.counts["passed"] else "-"


def modules() -> list[str]:
    """The names of the test modules of the running Python; RuntimeError if it was installed without."""
    spec = importlib.util.find_spec("test")
    folders = [Path(place) / "test_asyncio" for place in (spec and spec.submodule_search_locations) or ()]
    found = sorted(path.stem for folder in folders for path in folder.glob("test_*.py"))
    if not found:
        raise RuntimeError("this Python was installed without its `test` package")
    return found


def tests_of(module: str) -> list[str]:
    """The tests of a module."""
    return [test for report in child("asyncio", module, []) for test in report["tests"]]


def run_module(contestant: str, module: str, tests: list[str]) -> Outcome:
    """Run tests of a module on a contestant's loop; after one that hangs or kills the process, run the rest."""
    outcome = Outcome()
    left = list(tests)
    while left:
        running = None
        for report in child(contestant, module, left):
            if "started" in report:
                running = report["started"]
            else:
                outcome.add(report)
                running = None
                if report["test"] in left:
                    left.remove(report["test"])
        if running is None:
            break  # what is left belongs to a class or module that is skipped as a whole
        text = "hung, or killed the process"
        outcome.add({"test": running, "outcome": "failed", "text": text, "ours": True})
        left.remove(running)
    return outcome


def child(contestant: str, module: str, tests: list[str]) -> Iterator[dict[str, Any]]:
    """What a child process reports, until it ends or a test takes too long. RuntimeError if it can not even start."""
    process = subprocess.Popen(
        [sys.executable, "-m", "compat.suite_child", contestant, module],
        cwd=Path(__file__).parent.parent,
        env=environment(contestant),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stdout = process.stdout

    def read() -> None:
        for line in stdout:
            lines.put(line)
        lines.put(b"")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        process.stdin.write("\n".join(tests).encode())
        process.stdin.close()
        reported = False
        while line := lines.get(timeout=HANG):
            reported = True
            yield json.loads(line)
        if not reported and process.wait():
            raise RuntimeError(f"failed, run it to see why: python -m compat.suite_child {contestant} {module}")
    except queue.Empty:
        pass  # the test that was reported last hangs
    finally:
        process.kill()
        process.wait()
        reader.join()
        stdout.close()


def run(console: Console, contestants: list[str], only: list[str], excluded: bool, verbose: bool) -> bool:
    """Run the suite and print the table; return whether everything passed, or with `excluded` nothing did."""
    table = Table(title=f"test.test_asyncio of Python {sys.version.split()[0]}: tests passed")
    table.add_column("module", no_wrap=True)
    table.add_column("excluded", justify="right")
    for contestant in contestants:
        table.add_column(contestant, justify="right")
    totals: dict[str, Outcome] = {contestant: Outcome() for contestant in contestants}
    left_out: Counter[str] = Counter()
    with Live(table, console=console, vertical_overflow="visible"):
        for module in modules():
            if only and module not in only:
                continue
            whole = exclusions.MODULES.get(module)
            tests = [] if whole and not excluded else tests_of(module)
            reasons = {test: whole or exclusions.reason(module, test) for test in tests}
            chosen = [test for test, why in reasons.items() if bool(why) == excluded]
            left_out.update(why for why in reasons.values() if why)
            if whole and not excluded:
                left_out[f"{module}: {whole}"] += 0
                table.add_row(module, f"[dim]{whole}[/]", *("-" for _ in contestants))
                continue
            if not chosen:
                continue
            cells = []
            for contestant in contestants:
                table.caption = f"{module} on {contestant} …"
                if not console.is_terminal:  # the table is only seen when it is whole
                    print(table.caption, file=sys.stderr)
                outcome = run_module(contestant, module, chosen)
                cells.append(outcome.cell())
                total = totals[contestant]
                total.counts += outcome.counts
                total.passes += [f"{module}.{test}" for test in outcome.passes]
                total.failures |= {f"{module}.{test}": text for test, text in outcome.failures.items()}
            if any(cell != "-" for cell in cells):
                table.add_row(module, str(sum(map(bool, reasons.values())) or ""), *cells)
        table.caption = None
        table.add_section()
        table.add_row("in all", str(left_out.total()), *(total.cell() for total in totals.values()))
    console.line()
    show_details(console, totals, left_out, excluded, verbose)
    return not any(total.passes if excluded else total.failures for total in totals.values())


def show_details(
    console: Console, totals: dict[str, Outcome], left_out: Counter[str], excluded: bool, verbose: bool
) -> None:
    """Print what failed and why tests are excluded; with `excluded`, which exclusions are not needed."""
    for contestant, total in totals.items():
        if excluded:
            for test in total.passes:
                console.print(f"{contestant} passes {test}", highlight=False, markup=False, soft_wrap=True)
            continue
        for test, text in total.failures.items():
            shown = text.strip() if verbose else text.strip().rpartition("\n")[2]
            line = f"{contestant} fails {test}: {shown}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if not excluded:
        for why, count in sorted(left_out.items()):
            if count:
                console.print(f"excluded, {count}: {why}", highlight=False, markup=False)
