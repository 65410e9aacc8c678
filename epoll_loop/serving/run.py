"""serve() and start_serving(): a server on a loop of its own, and in a program that has one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

from epoll_loop.loop import Loop
from epoll_loop.serving.server import Serving

if TYPE_CHECKING:
    from ssl import SSLContext

    from epoll_loop.serving.addresses import Address
    from epoll_loop.serving.events import Events


async def start_serving(
    events: Events,
    *addresses: str | Address,
    tls: SSLContext | None = None,
    idle_timeout: float | None = None,
    write_timeout: float | None = None,
    shutdown_timeout: float = 10,
    backlog: int = 1024,
) -> Serving:
    """Serve on the running loop, and return the server once it listens on all addresses.

    An address is "tcp://HOST:PORT", tcp4, tcp6, udp, udp4, udp6, or "unix://PATH"; "?reuseport=true" sets SO_REUSEPORT,
    see socket(7). Port 0 is any that is free. `tls` is for all stream addresses. A connection is closed after
    `idle_timeout` seconds in which nothing came or went, and after `write_timeout` seconds in which the peer took
    nothing of what waits for it. `shutdown_timeout` is how many seconds `Serving.shutdown()` gives the connections to
    take what is queued. ValueError for a bad argument, OSError for an address that cannot be had: then nothing is left
    open.
    """
    server = Serving(events, idle_timeout=idle_timeout, write_timeout=write_timeout, shutdown_timeout=shutdown_timeout)
    await server.start(addresses, tls, backlog)
    return server


def serve(events: Events, *addresses: str | Address, **options: Any) -> None:
    """Serve until `Action.SHUTDOWN`, SIGTERM or an exception; for the arguments see `start_serving()`.

    RuntimeError if a loop runs in this thread. After KeyboardInterrupt the connections are dropped.
    """

    if asyncio._get_running_loop() is not None:
        raise RuntimeError("serve() cannot be called from a running event loop: there is start_serving()")

    async def main() -> None:
        server = await start_serving(events, *addresses, **options)
        loop = server.loop
        in_main = threading.current_thread() is threading.main_thread()
        if in_main:
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(signal.SIGTERM, server.shutdown)
        try:
            await server.wait_closed()
        finally:
            server.shutdown()
            server.abort()
            if in_main:
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(signal.SIGTERM)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
