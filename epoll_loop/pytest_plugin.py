"""`pytest --epoll-loop` runs the asynchronous tests of any project on this loop.

It makes this loop the one that asyncio gives to those who do not choose: `asyncio.run()` and `asyncio.Runner` in a
test, `unittest.IsolatedAsyncioTestCase`, and the plugins pytest-asyncio, anyio, pytest-aiohttp and aiohttp's own. What
a project chooses by name stays: a loop factory, the policy of a fixture, anyio's backend and its options.

pytest imports this module in every environment that has it: nothing else is imported before the option is given.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("epoll_loop")
    group.addoption("--epoll-loop", action="store_true", help="run asynchronous tests on the event loop epoll_loop")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Again: a conftest.py may have set a policy in its own pytest_configure()."""
    if session.config.getoption("epoll_loop"):
        _forget_policy()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make this loop the default one until the session ends."""
    if config.getoption("epoll_loop"):
        patch = pytest.MonkeyPatch()
        config.add_cleanup(patch.undo)
        _make_default(patch)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say that the loop is in use, and which build of it."""
    if not config.getoption("epoll_loop"):
        return None
    import epoll_loop

    build = "compiled" if epoll_loop.COMPILED else "pure"
    return f"epoll_loop: {epoll_loop.__version__}, {build} build"


def _make_default(patch: pytest.MonkeyPatch) -> None:
    import asyncio
    import warnings

    from epoll_loop import Loop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # nobody can do without policies before 3.16
        default = getattr(asyncio, "DefaultEventLoopPolicy", None)
        if default is None:
            for module in (asyncio, asyncio.events):
                patch.setattr(module, "new_event_loop", Loop)
            return
        # A policy of ours would not outlive the first test that sets the policy back to None, as tests are told to do.
        patch.setattr(default, "_loop_factory", Loop)
    _forget_policy()


def _forget_policy() -> None:
    import asyncio
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        default = getattr(asyncio, "DefaultEventLoopPolicy", None)
        if default is not None and type(asyncio.get_event_loop_policy()) is not default:
            asyncio.set_event_loop_policy(None)  # a conftest.py has set one for all tests
