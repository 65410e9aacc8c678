"""Where PyPy differs from CPython, besides the collector (see garbage.py)."""

import sys

import pytest

try:
    import tracemalloc
except ImportError:
    tracemalloc = None

PYPY = sys.implementation.name == "pypy"


def not_on_pypy(reason: str) -> pytest.MarkDecorator:
    """Skip a test there: the reason is what PyPy has otherwise."""
    return pytest.mark.skipif(PYPY, reason=f"PyPy: {reason}")


has_tracemalloc = not_on_pypy("no tracemalloc")
