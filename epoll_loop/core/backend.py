"""Which back end runs: decided once, when the first loop's module is imported."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epoll_loop.core.poller import Poller

_KNOWN = ("epoll", "kqueue", "poll", "select")  # the best one first


def _choose() -> str:
    # A back end is named after what it calls of the `select` module.
    there = [name for name in _KNOWN if hasattr(select, name)]
    wanted = os.environ.get("EPOLL_LOOP_POLLER", "")
    if wanted and wanted not in _KNOWN:
        raise ValueError(f"EPOLL_LOOP_POLLER is {wanted!r}; it can be {' or '.join(map(repr, _KNOWN))}")
    if wanted and wanted not in there:
        raise RuntimeError(f"EPOLL_LOOP_POLLER={wanted}, but this platform has no select.{wanted}()")
    return wanted or there[0]


POLLER = _choose()
"""The name of the back end."""


def new_poller() -> Poller:
    """Return a poller of the back end that was chosen; only that one is imported."""
    if POLLER == "epoll":
        from epoll_loop.core.epoll import Epoll

        return Epoll()
    if POLLER == "kqueue":
        from epoll_loop.core.kqueue import Kqueue

        return Kqueue()
    from epoll_loop.core import level

    return level.new_poll() if POLLER == "poll" else level.new_select()
