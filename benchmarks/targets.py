"""What serve() is to reach in every row: a rate next to uvloop's, and CPU time next to bare C's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.figures import Round, figure
from benchmarks.rows import BARE_C

RATE = 1.1  # times that of the same server as an asyncio.Protocol on uvloop, at least
CPU, CPU_US = 1.1, 1.0  # times the CPU time that bare C takes for a request, and that many µs, at most


class Judgement(NamedTuple):
    text: str
    met: bool

    def __str__(self) -> str:
        return f"{self.text}: {'met' if self.met else 'missed'}"


def judge(rounds: Sequence[Round], ours: str) -> list[Judgement]:
    """The targets that can be judged by what was measured, by the medians."""
    result = []
    if rate := figure(rounds, ours, "rate", "uvloop"):
        text = f"{rate.median:.2f} x the rate on uvloop, of at least {RATE}"
        result.append(Judgement(text, rate.median >= RATE))
    cpu, limit = figure(rounds, ours, "cpu_us"), figure(rounds, BARE_C, "cpu_us")
    if cpu and limit:
        most = CPU * limit.median + CPU_US
        text = f"{cpu.median:.2f} µs of CPU time, of at most {CPU} x {limit.median:.2f} + {CPU_US:.0f} = {most:.2f}"
        result.append(Judgement(text, cpu.median <= most))
    return result
