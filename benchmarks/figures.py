"""From rounds to figures. A round is one cell of every loop, one after the other: {loop: {metric: value}}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

Round = Mapping[str, Mapping[str, float]]


class Spread(NamedTuple):
    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def figure(rounds: Sequence[Round], loop: str, metric: str, relative_to: str | None = None) -> Spread | None:
    """`metric` of `loop` over the rounds, or its ratio to that of `relative_to`, taken within each round.

    A ratio of two medians would mix the states that the machine was in; the ratio within a round compares
    neighbours in time. None where no round has it.
    """
    values = [
        each[loop][metric] / (each[relative_to][metric] if relative_to else 1)
        for each in rounds
        if metric in each.get(loop, {}) and (not relative_to or each.get(relative_to, {}).get(metric))
    ]
    return spread(values) if values else None
