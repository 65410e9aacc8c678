"""The same aiohttp application on asyncio's loop, on uvloop, where that is installed, and on epoll_loop.

    python examples/aiohttp_loops.py

Each loop runs the application in a process of its own, and is asked over and over by a few connections; a table tells
how many requests a second were answered, and how much CPU time one took the server. It needs aiohttp and rich.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import signal
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

import epoll_loop

LOOPS = ["asyncio", "uvloop", "epoll_loop"]
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


# The server, which is started as `aiohttp_loops.py --serve LOOP` and prints its port.


def loop_factory(name):
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return epoll_loop.new_event_loop


async def application():
    from aiohttp import web

    async def hello(request):
        return web.json_response({"path": request.path})

    app = web.Application()
    app.add_routes([web.get("/", hello)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(runner.addresses[0][1], flush=True)
    await stop.wait()
    await runner.cleanup()


# The client, which is the same for all of them.


class Client(asyncio.Protocol):
    """Asks again as soon as it is answered."""

    def __init__(self):
        self.answered = 0
        self.lost = asyncio.get_running_loop().create_future()
        self._rest = b""
        self._size = 0  # of an answer; they are all alike

    def connection_made(self, transport):
        self._transport = transport
        transport.write(REQUEST)

    def data_received(self, data):
        self._rest += data
        if not self._size:
            head, end, _ = self._rest.partition(b"\r\n\r\n")
            if not end:
                return
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            self._size = len(head + end) + int(fields[b"content-length"])
        if len(self._rest) >= self._size:
            self._rest = self._rest[self._size :]
            self.answered += 1
            self._transport.write(REQUEST)

    def connection_lost(self, exc):
        self.lost.set_result(None)

    def close(self):
        self._transport.close()


async def load(port, connections, seconds):
    """Return how many requests a second were answered, and how many in all."""
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(Client, "127.0.0.1", port))[1] for _ in range(connections)]
    start = time.perf_counter()
    await asyncio.wait([client.lost for client in clients], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    answered = sum(client.answered for client in clients)
    rate = answered / (time.perf_counter() - start)
    if any(client.lost.done() for client in clients):
        raise ConnectionError("the server has closed a connection")
    for client in clients:
        client.close()
    await asyncio.gather(*(client.lost for client in clients))
    return rate, answered


# Both together.


def cpu_seconds(pid):
    """CPU time of a process, see clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


@contextlib.contextmanager
def server(name):
    """Start the application on a loop; have its process and its port."""
    command = [sys.executable, __file__, "--serve", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child, int(child.stdout.readline())
        finally:
            child.terminate()


def measure(names, rounds, connections, seconds):
    """Return (requests/s, CPU time a request) of each round, by the loops; they take turns, on the same machine."""
    found = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(server(name)) for name in names}
        for _ in range(rounds):
            for name, (child, port) in servers.items():
                before = cpu_seconds(child.pid)
                rate, answered = epoll_loop.run(load(port, connections, seconds))
                found[name].append((rate, (cpu_seconds(child.pid) - before) / max(answered, 1)))
    return found


def show(found):
    from statistics import median


    table = Table("loop", title="aiohttp, GET / in JSON, medians")
    for heading in ("requests/s", "against asyncio", "CPU a request"):
        table.add_column(heading, justify="right")
    medians = {name: [median(column) for column in zip(*rounds, strict=True)] for name, rounds in found.items()}
    for name, (rate, cpu) in medians.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / medians['asyncio'][0]:.2f} x", f"{cpu * 1e6:.1f} µs")
    Console().print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--serve", choices=LOOPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        with asyncio.Runner(loop_factory=loop_factory(options.serve)) as runner:
            runner.run(application())
        return
    names = [name for name in LOOPS if name != "uvloop" or importlib.util.find_spec(name)]
    show(measure(names, options.rounds, options.connections, options.seconds))


if __name__ == "__main__":
    main()
