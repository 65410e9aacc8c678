"""Objects that nobody refers to any more: CPython counts references and frees them at once, PyPy when it collects."""

import contextlib
import gc
import sys
from collections.abc import Iterator

COUNTED = sys.implementation.name == "cpython"
"""Whether references are counted here."""


def collect() -> None:
    """Have the collector free all that it can, also what it comes to only when the finalizers of others have run."""
    for _ in range(1 if COUNTED else 3):
        gc.collect()


def let_go() -> None:
    """Have what nobody refers to be gone: where references are counted it is already, without the collector."""
    if not COUNTED:
        collect()


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """What goes meanwhile goes for want of references."""
    collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
