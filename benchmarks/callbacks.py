"""The servers of `make bench-serve`: ``python -m benchmarks.callbacks WORKLOAD --loop NAME``.

The same server as an `asyncio.Protocol` on a loop and, as `serve`, as `epoll_loop.Events`. Prints the port that it
listens on (127.0.0.1), then serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from functools import partial

import epoll_loop
from benchmarks.loops import new_event_loop
from benchmarks.servers import BACKLOG, HOST, answer

SERVE = "serve"
LOOPS = ("uvloop", "epoll_loop", SERVE)
HELLO = answer(13)


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Hello(Echo):
    """The same answer to every request of HTTP."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        self.transport.write(HELLO * data.count(b"\r\n\r\n"))


class EchoEvents(epoll_loop.Events):
    """The same, as callbacks."""

    def serving(self, server: epoll_loop.Serving) -> None:
        print(server.addresses[0][1], flush=True)

    def data(self, conn: epoll_loop.Conn, data: bytes) -> bytes:
        return data


class HelloEvents(EchoEvents):
    """The same, as callbacks."""

    def data(self, conn: epoll_loop.Conn, data: bytes) -> bytes:
        return HELLO * data.count(b"\r\n\r\n")


WORKLOADS = {"echo": (Echo, EchoEvents), "http": (Hello, HelloEvents)}


async def listen(protocol: type[asyncio.Protocol]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(protocol, HOST, 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.callbacks", description=__doc__)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--loop", choices=LOOPS, required=True)
    arguments = parser.parse_args()
    protocol, events = WORKLOADS[arguments.workload]
    if arguments.loop == SERVE:
        epoll_loop.serve(events(), f"tcp://{HOST}:0", backlog=BACKLOG)
    else:
        with asyncio.Runner(loop_factory=partial(new_event_loop, arguments.loop)) as runner:
            runner.run(listen(protocol))


if __name__ == "__main__":
    main()
