"""The ways to get an asyncio program onto this loop: a loop factory, `run()`, and the event loop policy.

Python deprecated policies in 3.14 and removes them in 3.16, so the policy class is made only when somebody
asks for it, and nothing else here needs it.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from epoll_loop.loop import Loop

T = TypeVar("T")

HAS_POLICIES = sys.version_info < (3, 16)
_DEPRECATED = sys.version_info >= (3, 14)
_INSTEAD = "use epoll_loop.run() or loop_factory=epoll_loop.new_event_loop"
_GONE = f"Python 3.16 has no event loop policies: {_INSTEAD}"


def new_event_loop() -> Loop:
    """Return a new loop, for the caller to close. `asyncio.Runner(loop_factory=new_event_loop)` takes it."""
    return Loop()


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = new_event_loop,
) -> T:
    """Run a coroutine on a new loop, close the loop and return the result: `asyncio.run()`, on this loop.

    RuntimeError if a loop runs in this thread already.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("epoll_loop.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


def install() -> None:
    """Make this loop the one of `asyncio.run()`, `asyncio.new_event_loop()` and so on, by setting the policy.

    From Python 3.14 on it gives a DeprecationWarning as policies do, and from 3.16 on it raises RuntimeError.
    """
    if not HAS_POLICIES:
        raise RuntimeError(_GONE)
    if _DEPRECATED:
        warnings.warn(
            f"epoll_loop.install() sets an event loop policy, and Python 3.16 removes policies: {_INSTEAD}",
            DeprecationWarning,
            stacklevel=2,
        )
    set_policy()


def set_policy() -> None:
    """Set the policy without a warning: whoever calls has warned, or has no other choice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(_policy_class()())


if TYPE_CHECKING:

    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        """The default policy of this Python with this loop, for `asyncio.set_event_loop_policy()`."""


def __getattr__(name: str) -> Any:
    if name != "EventLoopPolicy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not HAS_POLICIES:
        raise AttributeError(_GONE)
    return _policy_class()


def _policy_class() -> type[EventLoopPolicy]:
    found: type[EventLoopPolicy] | None = globals().get("EventLoopPolicy")
    if found is not None:
        return found
    with warnings.catch_warnings():
        # The warning belongs to set_event_loop_policy(), where the caller sees it.
        warnings.simplefilter("ignore", DeprecationWarning)
        default = asyncio.DefaultEventLoopPolicy

    class EventLoopPolicy(default):  # type: ignore[valid-type, misc]
        """The default policy of this Python with this loop, for `asyncio.set_event_loop_policy()`."""

        def new_event_loop(self) -> Loop:
            return new_event_loop()

    EventLoopPolicy.__qualname__ = "EventLoopPolicy"
    globals()["EventLoopPolicy"] = EventLoopPolicy
    return EventLoopPolicy
