"""Objects that nobody refers to any more: CPython counts references and frees them at once, PyPy when it collects.

Without a GIL an object that two threads have had may be freed later, by the one that made it.
"""

import asyncio
import contextlib
import gc
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from typing import Any

COUNTED = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
"""Whether references are counted here, and whoever drops the last one frees the object."""

KEPT = ("Handle", "Destination")  # used again, and remembered for the same address


def collect() -> None:
    """Have the collector free all that it can, also what it comes to only when the finalizers of others have run.

    Of objects that refer to each other PyPy finalizes one each time.
    """
    for _ in range(1 if COUNTED else 12):
        gc.collect()


def let_go() -> None:
    """Have what nobody refers to be gone: where references are counted it is already, without the collector."""
    if not COUNTED:
        collect()


def drop(held: list[Any]) -> list[str]:
    """Forget what the list has, so that it is collected; return what is warned of.

    Not for `pytest.warns()`: a warning that is kept keeps what it is about, for as long as PyPy likes.
    """
    texts = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *args: texts.append(str(message))
        held.clear()
        collect()
    return texts


def ours() -> dict[str, int]:
    """What there is of the loop's own objects, by type."""
    counts: dict[str, int] = {}
    for each in gc.get_objects():
        kind = type(each)
        ours = str(kind.__module__).startswith("epoll_loop.") and kind.__name__ not in KEPT
        if ours or isinstance(each, asyncio.Task):
            counts[kind.__qualname__] = counts.get(kind.__qualname__, 0) + 1
    return counts


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """What goes meanwhile goes for want of references."""
    collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
