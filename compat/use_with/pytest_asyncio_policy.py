"""pytest-asyncio, by its fixture for the policy: a server for the session and its clients, a subprocess."""

from _project import run_pytest

CONFTEST = """
import epoll_loop
import pytest

@pytest.fixture(scope="session")
def event_loop_policy():
    return epoll_loop.EventLoopPolicy()
"""

print(run_pytest({"conftest.py": CONFTEST}, passed=4))
