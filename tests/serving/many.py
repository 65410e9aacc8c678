"""A server on many loops that runs as a program (see programs.py), and clients that are plain sockets."""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

from recording import LIMIT

import epoll_loop

ROOT = Path(epoll_loop.__file__).parent.parent
PROGRAM = Path(__file__).parent / "programs.py"
TCP = "tcp://127.0.0.1:0"
RESET = struct.pack("ii", 1, 0)  # close() resets, and leaves nothing in TIME_WAIT


class Client:
    """A connection, and the index of the worker that has it."""

    def __init__(self, address):
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
        else:
            self.sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        try:
            self.sock.settimeout(LIMIT)
            self.sock.connect(address if isinstance(address, str) else tuple(address))
        except BaseException:
            self.sock.close()
            raise

    def arrive(self):
        """Wait to be told which worker it is."""
        first = self.sock.recv(1)
        assert first, "closed, and not served"
        self.index = first[0]
        return self

    def has_come(self):
        """Whether it was told already which worker it is."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def say(self, data):
        self.sock.sendall(data)
        return self.sock.recv(len(data))

    def notice(self):
        """Wait for the worker to notice, and to tell the parent, what has happened before."""
        for _ in range(2):
            assert self.say(b"x") == b"x"

    def rest(self):
        """How much comes until the end, or until it is reset."""
        size = 0
        with contextlib.suppress(ConnectionResetError):
            while data := self.sock.recv(1 << 20):
                size += len(data)
        return size

    def close(self):
        self.sock.close()


class Program:
    """The running program; a context that ends it. `served` has the line of each worker, by its index."""

    def __init__(self, tmp_path, *addresses, loops=2, balance="random", **options):
        options = {"addresses": addresses or [TCP], "loops": loops, "balance": balance, **options}
        self.loops = loops
        self.stderr = tmp_path / "stderr"
        self.clients = []
        self.served = {}
        self.pidfds = {}
        ours, theirs = socket.socketpair()
        with theirs, self.stderr.open("wb") as stderr:
            command = [sys.executable, PROGRAM, json.dumps(options)]
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            self.process = subprocess.Popen(command, stdout=theirs, stderr=stderr, env=env)
        self._stdout = ours
        ours.settimeout(LIMIT)
        self._lines = ours.makefile("r")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for client in self.clients:
            client.close()
        self.process.kill()
        self.process.wait(LIMIT)
        self._lines.close()
        self._stdout.close()
        try:
            self.until_gone()
        finally:
            for fd in self.pidfds.values():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                os.close(fd)

    def line(self):
        line = self._lines.readline()
        assert line, self.log()
        return json.loads(line)

    def next_worker(self):
        """Wait for a worker to serve, and return its line."""
        line = next(line for line in iter(self.line, None) if "fails" not in line)
        self.serves(line)
        return line

    def serves(self, line):
        assert "index" in line, line
        self.served[line["index"]] = line
        self.addresses = line["addresses"]
        self.has(line["pid"])

    def has(self, pid):
        """One of its processes, which are all the same for threads."""
        if pid not in self.pidfds:
            self.pidfds[pid] = os.pidfd_open(pid)

    def ready(self):
        """Wait for all of them, and for the parent to know."""
        up = False
        while not up or len(self.served) < self.loops:
            line = self.line()
            if "up" in line:
                up = True
            else:
                self.serves(line)
        assert sorted(self.served) == list(range(self.loops))
        return self

    def log(self):
        return self.stderr.read_text()

    def comes(self, address=None):
        """A client that nobody serves yet."""
        client = Client(self.addresses[0] if address is None else address)
        self.clients.append(client)
        return client

    def client(self, address=None):
        return self.comes(address).arrive()

    def until_behind(self):
        """Clients that come to worker 0, which is stuck, until it takes no more; those of worker 1 come and go."""
        stuck = []
        while True:
            first = self.comes()
            with contextlib.closing(self.client()) as second:
                assert second.index == 1
            if first.has_come():  # to the same one then, and before the second
                return stuck
            stuck.append(first)

    def client_of(self, index):
        """A client that came to that worker, sooner or later."""
        for _ in range(1000):
            client = self.client()
            if client.index == index:
                return client
            client.close()
        raise AssertionError(f"none comes to worker {index}")

    def clients_of_all(self):
        return [self.client_of(index) for index in range(self.loops)]

    def kill(self, index, number=signal.SIGKILL):
        signal.pidfd_send_signal(self.pidfds[self.served[index]["pid"]], number)

    def is_over(self, how="ended"):
        """Wait for the end, and see that nothing is left. Workers may begin, and fail, until then."""
        line = next(line for line in iter(self.line, None) if "over" in line)
        assert line == {"over": how, "descriptors": 0, "children": 0}
        assert self.process.wait(LIMIT) == 0
        self.until_gone()

    def until_gone(self):
        """Wait for the workers to end."""
        for pid, fd in self.pidfds.items():
            assert select.select([fd], [], [], LIMIT)[0], f"worker {pid} runs on"
