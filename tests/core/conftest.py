"""Many short tests, each of which collects garbage to see what a loop leaves behind."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def _imported_modules_are_no_garbage() -> Iterator[None]:
    """The collector leaves alone what is there before the first test: it would be most of the time of all tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
