"""A server on many loops, as a program: it prints a line for each worker that serves, and one when all is over.

Its argument is a JSON object, see `main()`. A client says what it wants done, see `Served.data()`.
"""

import json
import logging
import multiprocessing.resource_tracker
import os
import signal
import ssl
import sys
from pathlib import Path

import epoll_loop
from epoll_loop import Action

SIZE = 20_000_000  # more than the kernel takes while nobody reads


def say(**what):
    os.write(1, f"{json.dumps(what)}\n".encode())  # in one piece, beside the other processes


def fail(folder):
    """The first two workers start, the next two do not, each in a way of its own, and all others do."""
    with Path(folder, "starts").open("a+") as file:
        file.write("x")
        file.seek(0)
        count = len(file.read())
    if count == 3:
        raise ZeroDivisionError("start 3")
    if count == 4:
        os._exit(7)


class Up(logging.Handler):
    """Calls a function when the parent knows that all serve: from then on workers may end."""

    def __init__(self, tell):
        super().__init__()
        self.tell = tell
        self.logger = logging.getLogger("asyncio")
        self.logger.addHandler(self)
        self.logger.setLevel(logging.INFO)

    def emit(self, record):
        if record.levelno == logging.INFO:
            self.tell()

    def close(self):
        self.logger.removeHandler(self)
        self.logger.setLevel(logging.NOTSET)
        super().close()


class Served(epoll_loop.Events):
    """Says which worker it is to each that comes."""

    def __init__(self, folder=None, start=None):
        self.folder, self.start = folder, start

    def serving(self, server):
        self.server = server
        if self.start == "raise":
            raise ZeroDivisionError("in serving()")
        if self.start == "exit":
            os._exit(3)
        if self.start == "shutdown":
            return Action.SHUTDOWN
        if self.start == "twice":
            fail(self.folder)
        return None

    def tick(self):
        say(index=self.server.loop_index, pid=os.getpid(), addresses=self.server.addresses, loops=self.server.loops)

    def opened(self, conn):
        return bytes([self.server.loop_index])

    def data(self, conn, data):
        match bytes(data):
            case b"big":
                return bytes(SIZE)
            case b"hang":
                say(hangs=self.server.loop_index)
                while True:
                    signal.pause()
            case b"end":
                return b"!", Action.SHUTDOWN
            case _:
                datagram = not isinstance(conn, epoll_loop.Conn)
                return bytes([self.server.loop_index]) + data if datagram else data


def context():
    """What each worker has of its own."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(os.environ["CERTIFICATE"])
    return made


def main(addresses, loops, balance, folder=None, start=None, tls=False, **options):
    multiprocessing.resource_tracker.ensure_running()  # which stays until the program ends
    before = len(os.listdir("/proc/self/fd"))
    how = "ended"
    try:
        epoll_loop.serve(
            Served(folder, start), *addresses, loops=loops, balance=balance, tls=context if tls else None, **options
        )
    except KeyboardInterrupt:
        how = "KeyboardInterrupt"
    except Exception as exc:
        how = f"{type(exc).__name__}: {exc}"
    left = len(os.listdir("/proc/self/fd")) - before
    say(over=how, descriptors=left, children=len(multiprocessing.active_children()))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.root.handlers[0].setLevel(logging.WARNING)
    Up(lambda: say(up=True))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs with it ignored
    main(**json.loads(sys.argv[1]))
