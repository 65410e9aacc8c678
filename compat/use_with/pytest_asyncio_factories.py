"""pytest-asyncio, by its hook for loop factories: a server for the session and its clients, a subprocess."""

from _project import run_pytest

CONFTEST = """
import epoll_loop

def pytest_asyncio_loop_factories():
    return {"epoll_loop": epoll_loop.new_event_loop}
"""

print(run_pytest({"conftest.py": CONFTEST}, passed=4))
