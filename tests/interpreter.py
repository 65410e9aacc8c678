"""What runs the tests: where PyPy differs from CPython, besides the collector (see garbage.py), and what is slow."""

import os
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


_SANITIZED = "ASAN_OPTIONS" in os.environ  # python -m reliability.sanitize
PATIENCE = 10 if _SANITIZED or sys.flags.dev_mode else 1
"""How many times as long as usual something may take."""

memory_counts = pytest.mark.skipif(_SANITIZED, reason="a sanitizer keeps for a while what is freed")

has_tracemalloc = not_on_pypy("no tracemalloc")
