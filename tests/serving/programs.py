"""A server on many loops, as a program: it prints a line for each worker that serves, and one when all is over.

Its argument is a JSON object, see `main()`. A client says what it wants done, see `Served.data()`.
"""

import json
import logging
import multiprocessing.resource_tracker
import os
import signal
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import NoReturn

import epoll_loop
from epoll_loop import Action
from epoll_loop.serving.run import _serve_many

HERE = threading.local()  # the server of this thread
SIZE = 20_000_000  # more than the kernel takes while nobody reads


def say(**what):
    os.write(1, f"{json.dumps(what)}\n".encode())  # in one piece, beside the other processes


def starts(folder):
    """How many workers have started until now."""
    with Path(folder, "starts").open("a+") as file:
        file.write("x")
        file.seek(0)
        return len(file.read())


def zombies():
    """How many of the children have ended, and were not waited for: one, or none."""
    return int(os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None)


def wait():
    """Hang until SIGUSR1 comes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    say(hangs=HERE.server.loop_index)
    signal.sigwait({signal.SIGUSR1})


def later(iterations, callback):
    if iterations:
        HERE.server.loop.call_soon(later, iterations - 1, callback)
    else:
        callback()


def hang() -> NoReturn:
    while True:
        signal.pause()


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
        self.stays = False

    def serving(self, server):
        HERE.server = server
        if self.start == "raise":
            raise ZeroDivisionError("in serving()")
        if self.start == "exit":
            os._exit(3)
        if self.start == "shutdown":
            return Action.SHUTDOWN
        if self.start == "late":
            say(starts=server.loop_index, pid=os.getpid(), addresses=server.addresses)
            with socket.socket(socket.AF_UNIX) as gate:
                gate.connect(f"{self.folder}/gate")
                gate.recv(1)
        if self.start in ("twice", "ever"):
            self.fail(starts(self.folder) - 2)
        return None

    def fail(self, number):
        """The first two workers start, and the next two do not, or none ever again; there are two ways to fail."""
        if number > 0 and (number <= 2 or self.start == "ever"):
            say(fails=number)
            if number % 2:
                raise ZeroDivisionError(f"failure {number}")
            os._exit(7)

    def tick(self):
        server = HERE.server
        say(index=server.loop_index, pid=os.getpid(), addresses=server.addresses, loops=server.loops)

    def opened(self, conn):
        return bytes([HERE.server.loop_index])

    def closed(self, conn, error):
        if self.stays:
            hang()

    def data(self, conn, data):
        match bytes(data):
            case b"big":
                return bytes(SIZE)
            case b"hang":
                say(hangs=HERE.server.loop_index)
                hang()
            case b"wait and leave":
                wait()
                os.kill(os.getpid(), signal.SIGTERM)
                later(3, hang)  # when it has told the parent
                return b"!"
            case b"wait and exit":
                wait()
                threading.Thread(target=threading.Event().wait).start()  # the process stays
                raise SystemExit
            case b"stay":
                self.stays = True
                return b"!"
            case b"exit":
                raise SystemExit
            case b"fork":
                if (pid := os.fork()) == 0:
                    hang()
                say(forked=pid)
                return b"!"
            case b"end":
                return b"!", Action.SHUTDOWN
            case _:
                datagram = not isinstance(conn, epoll_loop.Conn)
                return bytes([HERE.server.loop_index]) + data if datagram else data


def context():
    """What each worker has of its own."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(os.environ["CERTIFICATE"])
    return made


def main(addresses, loops, balance, threads=False, folder=None, start=None, tls=False, **options):
    """Serve in threads or in processes, whatever this Python has for it."""
    multiprocessing.resource_tracker.ensure_running()  # which stays until the program ends
    before = len(os.listdir("/proc/self/fd"))
    how = "ended"
    events = Served(folder, start)
    options["tls"] = context if tls else None
    try:
        if loops == 1:
            epoll_loop.serve(events, *addresses, **options)
        else:
            _serve_many(events, addresses, loops, balance, options, threads)
    except KeyboardInterrupt:
        how = "KeyboardInterrupt"
    except Exception as exc:
        how = f"{type(exc).__name__}: {exc}"
    left = len(os.listdir("/proc/self/fd")) - before
    say(over=how, descriptors=left, children=zombies() + len(multiprocessing.active_children()))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.root.handlers[0].setLevel(logging.WARNING)
    Up(lambda: say(up=True))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs with it ignored
    main(**json.loads(sys.argv[1]))
