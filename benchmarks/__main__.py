"""The loops side by side: ``python -m benchmarks``, or ``make bench``.

A row's servers start once and stay up. Its rounds are interleaved (A B C D A B C D …), so that drift of the
machine hits all alike; server and load generator have a core each. Every figure is the median over the
rounds, with the least and the greatest below it; a ratio is taken within each round. CPU time is that of the
process measured, without its children. What a loop cannot do is said, and its cells stay empty.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.figures import Round, Spread, figure
from benchmarks.load import build, missing_header
from benchmarks.loops import ALL_LOOPS, TLS_LOOPS, version, why_not
from benchmarks.processes import cores
from benchmarks.rows import BARE_C, ROWS, Row
from benchmarks.runner import run_row

WIDTH = 132  # that the tables need; taken where the output is not a terminal


def table(row: Row, rounds: Sequence[Round], loops: Sequence[str], narrow: bool) -> Table:
    def text(spread: Spread | None, form: str) -> str:
        """The median, and below it the least and the greatest."""
        if spread is None:
            return ""
        middle, low, high = (format(value, form) for value in spread)
        if low == high:
            return middle
        return f"{middle}\n[dim]{low}…" + "\n" * narrow + f"{high}[/]"

    result = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    result.add_column("loop", no_wrap=True)
    for column in row.columns:
        heading = column.heading.format(unit=row.unit, one=row.unit.removesuffix("s"))
        result.add_column(heading, justify="right", overflow="fold")
    for loop in loops:
        result.add_row(
            loop, *(text(figure(rounds, loop, c.metric, c.relative_to), c.form) for c in row.columns)
        )
    return result


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="rows:\n" + "\n".join(f"  {name:10}{row.title}" for name, row in ROWS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--only", type=names, default=list(ROWS), metavar="ROW,…", help="default: all")
    parser.add_argument(
        "--loops",
        type=names,
        default=list(ALL_LOOPS),
        metavar="LOOP,…",
        help=f"{', '.join(ALL_LOOPS)}; the last {len(TLS_LOOPS)} in rows of TLS only",
    )
    parser.add_argument("--rounds", type=int, default=5, help="of every row (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a cell (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the rounds as measured")
    arguments = parser.parse_args(argv)
    for given, known in ((arguments.only, ROWS), (arguments.loops, ALL_LOOPS)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"{', '.join(unknown)}: there is only {', '.join(known)}")
    return arguments


def prepare(console: Console, wrk: bool = True) -> int | None:
    """Builds the load generators, sets limits and cores, and says on what it runs; returns the servers' core."""
    for name in ("load", "datagrams"):
        build(name)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # servers inherit it
    console.print(f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} CPUs")
    console.print(f"HTTP load by {'wrk' if wrk and shutil.which('wrk') else 'benchmarks/load.c'}")
    console.print(f"TLS by {ssl.OPENSSL_VERSION}, with an ECDSA certificate on P-256")
    server_core, load_core = cores()
    if load_core is None:
        console.print("[yellow]one core only, shared by server and load: trust CPU time, not the rates[/]")
    else:
        os.sched_setaffinity(0, {load_core})  # for the load that it starts; a server is moved at its start
        console.print(f"servers on core {server_core}, load on core {load_core}")
    return server_core


def feasible(names: Sequence[str], console: Console) -> dict[str, Row]:
    """The rows of that name, in the order that they have everywhere, without those that a program is missing for."""
    rows = {name: row for name, row in ROWS.items() if name in names}
    for program in {row.needs for row in rows.values()} - {""}:
        if not shutil.which(program):
            missing = [name for name, row in rows.items() if row.needs == program]
            console.print(f"[yellow]{', '.join(missing)}: left out, {program} is not on PATH[/]")
            rows = {name: row for name, row in rows.items() if name not in missing}
    return rows


def limited(rows: dict[str, Row], console: Console) -> dict[str, Row]:
    """The same, with the programs of their limits built; without the limit where a header is missing for it."""
    for program in dict.fromkeys(row.limit[0] for row in rows.values() if row.limit):
        if header := missing_header(program):
            without = [name for name, row in rows.items() if row.limit[:1] == (program,)]
            console.print(f"[yellow]{', '.join(without)}: without {BARE_C}, {header} is missing[/]")
            rows = rows | {name: replace(rows[name], limit=()) for name in without}
        else:
            build(program)
    return rows


def available(names: Sequence[str], console: Console) -> list[str]:
    result = []
    for name in names:
        if reason := why_not(name):
            console.print(f"[yellow]{name} is left out: {reason}[/]")
        else:
            console.print(f"{name} {version(name)}")
            result.append(name)
    return result


def main() -> None:
    arguments = parse()
    tty = sys.stdout.isatty()
    console = Console(width=None if tty else WIDTH, highlight=False)
    began = time.monotonic()
    server_core = prepare(console)
    rows = limited(feasible(arguments.only, console), console)
    wanted = {loop for row in rows.values() for loop in row.loops}
    loops = available([loop for loop in arguments.loops if loop in wanted], console)

    results: dict[str, list[Round]] = {}
    columns = (SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, refresh_per_second=2, transient=True, disable=not tty
    ) as progress:
        task = progress.add_task("", total=sum(min(row.enough, arguments.rounds) for row in rows.values()))
        for name, row in rows.items():
            subjects = [*(loop for loop in loops if loop in row.loops), *[BARE_C] * bool(row.limit)]
            number = min(row.enough, arguments.rounds)
            rounds = results[name] = []
            progress.update(task, description=name)
            measured = run_row(row, subjects, number, arguments.seconds, server_core, console.print)
            for one in measured:
                rounds.append(one)
                progress.advance(task)
                if not tty:
                    console.print(f"{name}, round {len(rounds)} of {number}")
            console.print(
                f"[bold]{row.title}[/]", table(row, rounds, subjects, console.width < WIDTH), sep="\n"
            )
    console.print(f"{time.monotonic() - began:.0f} s in all")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
