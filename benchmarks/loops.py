"""The contestants, and how each of them makes a loop. Everything else treats all of them alike."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import subprocess
import sys
from typing import Any

LOOPS = ("asyncio", "uvloop", "epoll_loop-pure", "epoll_loop")
# What differs from these in TLS only: other transports on the same loop, and the other TLS engine of ours.
TLS_LOOPS = ("asyncio+aiofastnet", "uvloop+aiofastnet", "epoll_loop-object")
ALL_LOOPS = LOOPS + TLS_LOOPS


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """A new loop of the contestant `name`.

    `epoll_loop` fixes its build and its TLS engine when it is first imported, so a process has one of each.
    Raises ImportError where the contestant is not installed, or its build is not the one asked for.
    """
    if name == "asyncio":
        return asyncio.new_event_loop()
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    if name not in ALL_LOOPS:
        raise ValueError(f"no such loop: {name!r}; there are {', '.join(ALL_LOOPS)}")
    if name.endswith("+aiofastnet"):
        import aiofastnet

        loop = new_event_loop(name.removesuffix("+aiofastnet"))
        loop.set_exception_handler(but_for_resets)
        return aiofastnet.patch_loop(loop)
    pure = name == "epoll_loop-pure"
    os.environ.pop("EPOLL_LOOP_PURE", None)
    os.environ.pop("EPOLL_LOOP_TLS", None)
    if pure:
        os.environ["EPOLL_LOOP_PURE"] = "1"
    if name == "epoll_loop-object":
        os.environ["EPOLL_LOOP_TLS"] = "object"
    import epoll_loop
    from epoll_loop.net.tls import WHY_NOT_DIRECT

    if epoll_loop.COMPILED is pure:
        raise ImportError(f"epoll_loop is here in its {'compiled' if pure else 'pure'} build only")
    if name == "epoll_loop-object" and WHY_NOT_DIRECT:
        raise ImportError(f"it is the only TLS engine of epoll_loop here: {WHY_NOT_DIRECT}")
    return epoll_loop.new_event_loop()


def but_for_resets(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Says nothing of a client that leaves before its handshake: wrk does, and the other transports are silent too."""
    if context.get("exception") is not ConnectionResetError:  # the type itself
        loop.default_exception_handler(context)


def package(name: str) -> str:
    """The package whose transports the contestant has."""
    return name.rpartition("+")[2].partition("-")[0]


def check_transport(name: str, transport: object) -> None:
    """Raises TypeError where the transport is not of the contestant's package."""
    kind = type(transport)
    if kind.__module__.partition(".")[0] != package(name):
        raise TypeError(f"{name} runs on {kind.__module__}.{kind.__qualname__}")


def version(name: str) -> str:
    """The contestant's release, for the heading of a report."""
    if name == "asyncio":
        return sys.version.split()[0]
    try:
        return importlib.metadata.version(package(name))
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


def why_not(name: str) -> str:
    """Why the contestant cannot run here, in one line; empty where it can."""
    command = [sys.executable, "-m", "benchmarks.loops", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


if __name__ == "__main__":
    new_event_loop(sys.argv[1]).close()
