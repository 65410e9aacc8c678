"""serve() and start_serving(): a server on a loop of its own, and in a program that has one."""

from __future__ import annotations

import asyncio
import inspect
import operator
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from epoll_loop.loop import Loop
from epoll_loop.serving.addresses import parse_all
from epoll_loop.serving.balance import BALANCES
from epoll_loop.serving.events import Events, check
from epoll_loop.serving.job import on_sigterm
from epoll_loop.serving.server import Serving

if TYPE_CHECKING:
    from ssl import SSLContext

    from epoll_loop.serving.addresses import Address


# Of a timeout, in seconds: what a float can tell from what is longer.
_LONGEST = sys.float_info.max


async def start_serving(
    events: Events,
    *addresses: str | Address,
    tls: SSLContext | Callable[[], SSLContext] | None = None,
    idle_timeout: float | None = None,
    write_timeout: float | None = None,
    shutdown_timeout: float = 10,
    backlog: int = 1024,
) -> Serving:
    """Serve on the running loop, and return the server once it listens on all addresses.

    An address is "tcp://HOST:PORT", tcp4, tcp6, udp, udp4, udp6, or "unix://PATH"; "?reuseport=true" sets SO_REUSEPORT,
    see socket(7). Port 0 is any that is free. `tls` is for all stream addresses: an SSLContext, or a function that
    returns one. A connection is closed after `idle_timeout` seconds in which nothing came or went (so long has also its
    TLS handshake, or else 60 seconds), and after `write_timeout` seconds in which the peer took nothing of what waits
    for it, the end of TLS included. `shutdown_timeout` is how many seconds `Serving.shutdown()` gives connections to
    take what is queued. ValueError for a bad argument, OSError for an address that cannot be had: then nothing is left
    open. RuntimeError on a loop that is not one of epoll_loop.
    """
    if not isinstance(asyncio.get_running_loop(), Loop):
        raise RuntimeError("start_serving() needs a loop of epoll_loop; epoll_loop.run() has one")
    _check(events, backlog, idle_timeout, write_timeout, shutdown_timeout)
    server = Serving(events, idle_timeout=idle_timeout, write_timeout=write_timeout, shutdown_timeout=shutdown_timeout)
    await server.start(parse_all(addresses, tls), backlog)
    return server


def serve(events: Events, *addresses: str | Address, loops: int = 1, balance: str = "random", **options: Any) -> None:
    """Serve until `Action.SHUTDOWN`, SIGTERM or an exception; for the other arguments see `start_serving()`.

    With `loops` above 1 each loop has a thread on a free-threaded Python, where all share `events`. Elsewhere each has
    a process, which is replaced should it die: `events` is pickled, and `tls` is a function that returns an SSLContext.
    With `balance` "random" the kernel distributes the connections, see SO_REUSEPORT of socket(7), and of a Unix address
    whoever is first has them. "round-robin" hands them out in turn, and "least-connections" to the one with the fewest.

    ValueError and OSError are those of `start_serving()`, TypeError is for what other processes cannot have, and
    RuntimeError for a loop that runs in this thread. What keeps one of many loops from serving in the beginning is
    raised, and later there is another try, after a while. After KeyboardInterrupt the connections of a single loop are
    dropped; many loops end as at SIGTERM. A process that takes a second longer than `shutdown_timeout` is killed, and
    at another KeyboardInterrupt all of them are. What is nobody's connection any more after `Conn.upgrade()` ends with
    the loop.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("serve() cannot be called from a running event loop: there is start_serving()")
    if isinstance(loops, bool) or not isinstance(loops, int) or loops < 1:
        raise ValueError(f"loops is a number from 1 on, not {loops!r}")
    if balance not in BALANCES:
        raise ValueError(f"balance is one of {', '.join(BALANCES)}, not {balance!r}")
    if loops > 1:
        _serve_many(events, addresses, loops, balance, options, threads=not _has_gil())
        return

    async def main() -> None:
        server = await start_serving(events, *addresses, **options)
        with on_sigterm(server.loop, server.shutdown):
            try:
                await server.wait_closed()
            finally:
                server.shutdown()
                server.abort()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


def _check(
    events: Events, backlog: int, idle_timeout: float | None, write_timeout: float | None, shutdown_timeout: float
) -> None:
    """Raise what is wrong, before there is anything to be closed."""
    check(events)
    for name, seconds in (("idle_timeout", idle_timeout), ("write_timeout", write_timeout)):
        if seconds is not None and not 0 < seconds <= _LONGEST:
            raise ValueError(f"{name} is a number of seconds above 0, or None, not {seconds!r}")
    if not 0 <= shutdown_timeout <= _LONGEST:
        raise ValueError(f"shutdown_timeout is a number of seconds, not {shutdown_timeout!r}")
    operator.index(backlog)


def _has_gil() -> bool:
    return sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True


def _serve_many(
    events: Events,
    addresses: tuple[str | Address, ...],
    loops: int,
    balance: str,
    options: dict[str, Any],
    threads: bool,
) -> None:
    from epoll_loop.serving.workers import serve_many  # and with it multiprocessing

    bound = inspect.signature(start_serving).bind(events, *addresses, **options)
    bound.apply_defaults()
    rest = bound.kwargs
    tls, backlog = rest.pop("tls"), rest.pop("backlog")
    _check(events, backlog, **rest)
    serve_many(events, parse_all(addresses, tls), loops, balance, threads, backlog, rest)
