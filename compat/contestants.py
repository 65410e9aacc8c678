"""The four loops that are compared."""

from __future__ import annotations

import asyncio
import os

NAMES = ("asyncio", "uvloop", "epoll_loop-pure", "epoll_loop")
OURS = NAMES[2:]


def environment(contestant: str) -> dict[str, str]:
    """The environment variables of a process that runs a contestant."""
    env = dict(os.environ)
    env["EPOLL_LOOP_PURE"] = "1" if contestant == "epoll_loop-pure" else "0"
    return env


def loop_class(contestant: str) -> type[asyncio.AbstractEventLoop]:
    """The class of a contestant's loop, in a process with the right `environment()`."""
    if contestant == "asyncio":
        return asyncio.SelectorEventLoop
    if contestant == "uvloop":
        import uvloop

        return uvloop.Loop
    import epoll_loop

    if (contestant == "epoll_loop") != epoll_loop.COMPILED:
        raise RuntimeError(f"this process runs the {'compiled' if epoll_loop.COMPILED else 'pure'} build")
    return epoll_loop.Loop
