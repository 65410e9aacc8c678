"""The counts in the end."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from reliability.soak.content import MB
from reliability.soak.fault import FAULTS
from reliability.soak.held import Held
from reliability.soak.record import APART, HERE, Record

# How much more memory in the end than after the warm-up is no leak yet: the pages that the allocator keeps. In ten
# minutes there are about 150,000 requests and 25,000 faults, so that 100 bytes forgotten at each of them, a handle with
# its arguments, are above it. A run without time to warm up gets the memory that its load takes at the most on top.
MAY_GROW = 16 * MB
WARM_AFTER = 15.0  # seconds
LOAD = 64 * MB


def judge(record: Record, held: Held) -> None:
    """Count what the end shows: what was not answered, never put in, and what is still held."""
    for (kind, where), count in record.unanswered().items():
        record.lost[f"{kind}, {where}: asked and not answered"] += count
    for name in FAULTS:
        record.check(record.faults[name] > 0, f"{name}: never put in")
    tallies = record.tallies
    done = tallies["timers fired"] + tallies["timers cancelled"]
    record.check(tallies["timers scheduled"] == done, "timers scheduled are not those fired and cancelled")
    ended = tallies["connections of echoes lost"]
    record.check(tallies["connections of echoes made"] == ended, "connection_lost() is not called once a connection")
    record.check(held.after[1] <= held.before[1], "descriptors are left open")
    grown = held.last - held.first
    most = MAY_GROW if held.warm >= WARM_AFTER else MAY_GROW + LOAD
    record.check(grown <= most, f"memory grew by {grown / MB:.1f} MiB, and {most / MB:.0f} is the most")
    for name, count in held.left.items():
        record.lost[f"left: {name}"] += count


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _tables(record: Record) -> Iterator[Table]:
    requests = _table("Requests", "kind", HERE, APART, "answered")
    for kind in sorted({kind for kind, _ in record.asked}):
        asked = [record.asked[kind, where] for where in (HERE, APART)]
        answered = sum(record.answered[kind, where] for where in (HERE, APART))
        requests.add_row(kind, *(f"{count:,}" for count in asked), f"{answered:,}")
    requests.add_section()
    asked = [sum(count for (_, place), count in record.asked.items() if place == where) for where in (HERE, APART)]
    requests.add_row("in all", *(f"{count:,}" for count in asked), f"{record.answered.total():,}")
    yield requests
    faults = _table("Faults", "fault", "put in", "errors expected")
    for name in FAULTS:
        errors = sum(count for (fault, _, _), count in record.expected.items() if fault == name)
        faults.add_row(name, f"{record.faults[name]:,}", f"{errors:,}")
    faults.add_section()
    faults.add_row("in all", f"{record.faults.total():,}", f"{record.expected.total():,}")
    yield faults
    seen = _table("Errors seen and expected", "error", "by", "number")
    kinds = sorted({(error, side) for _, side, error in record.expected})
    for error, side in kinds:
        number = sum(count for (_, *rest), count in record.expected.items() if rest == [side, error])
        seen.add_row(error, side, f"{number:,}")
    yield seen
    counts = _table("Counts", "of", "number")
    for name, count in sorted(record.tallies.items()):
        counts.add_row(name, f"{count:,}")
    yield counts


def _lines(record: Record, held: Held) -> Iterator[str]:
    sizes = {
        "at the start": held.before[0],
        "after the warm-up": held.first,
        "in the end": held.last,
        "when all was closed": held.after[0],
        "at the most": max(size for _, size in held.memory),
    }
    yield "Memory in MiB: " + ", ".join(f"{size / MB:.1f} {when}" for when, size in sizes.items())
    yield from (f"  {difference}" for difference in held.grown)
    numbers = {"at the start": held.before[1], "at the end": held.after[1], "at the most": held.descriptors}
    yield "Descriptors: " + ", ".join(f"{number} {when}" for when, number in numbers.items())
    yield f"Transports, handles, tasks and whatever else of the loop is left: {held.left.total():,}"
    yield f"Buffered by an echo at the most: {record.highest.get('bytes buffered by an echo', 0):,.0f} bytes"
    yield f"A timer was late by at the most: {record.highest.get('seconds that a timer was late', 0):.3f} s"
    for title, found in (("Unexpected errors", record.unexpected), ("Lost", record.lost)):
        yield f"{title}: {found.total():,}"
        yield from (f"  {count:,}: {text}" for text, count in found.most_common())


def show(console: Console, record: Record, held: Held) -> None:
    """Print it."""
    for table in _tables(record):
        console.print(table)
    for line in _lines(record, held):
        console.print(line, markup=False, soft_wrap=True)
    if record.good():
        console.print("Nothing lost.")
    else:
        console.print(f"{record.lost.total():,} lost, {record.unexpected.total():,} unexpected errors.")
