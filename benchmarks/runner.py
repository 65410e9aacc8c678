"""Runs the rounds of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from benchmarks.figures import Round
from benchmarks.processes import MeasurementError
from benchmarks.rows import Row, Sample, start

WARM_UP = 0.15  # seconds, once for every process
WARM_UP_TLS = 0.4  # has handshakes before the first request


def run_row(
    row: Row,
    loops: Sequence[str],
    rounds: int,
    seconds: float,
    core: int | None = None,
    say: Callable[[str], None] = print,
) -> Iterator[Round]:
    """Yields the rounds. The row's processes start together; in a round they have a cell each, in turn.

    They run on `core`. A cell that fails is empty. Why it does, and what else a process complains of, is told to
    `say`, once.
    """
    if row.fresh and rounds > 1:
        for _ in range(rounds):
            yield from run_row(row, loops, 1, seconds, core, say)
        return
    with ExitStack() as stack:
        processes = {loop: start(row, loop, core) for loop in loops}
        lines: dict[str, str] = {}
        told: set[tuple[str, str]] = set()

        def tell(loop: str, *what: str) -> None:
            new = {(loop, each) for each in what if each} - told
            if new:
                told.update(new)
                say(f"{row.title}: {loop}: {': '.join(filter(None, what))}")

        def finish(loop: str) -> None:
            tell(loop, processes[loop].stop())

        def cell(loop: str, seconds: float) -> Sample:
            process = processes[loop]
            try:
                if loop not in lines:
                    lines[loop] = process.readline()
                process.check()
                return row.cell(process, lines[loop], seconds) if seconds else {}
            except (MeasurementError, OSError) as error:
                tell(loop, str(error), process.complaint())
                return {}

        for loop in loops:
            stack.callback(finish, loop)

        warm_up = 0 if row.fresh else WARM_UP_TLS if row.tls else WARM_UP
        for loop in loops:
            cell(loop, warm_up)
        for _ in range(rounds):
            yield {loop: cell(loop, seconds * row.part) for loop in loops}
