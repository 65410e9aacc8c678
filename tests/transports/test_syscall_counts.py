"""What a connection and a request cost in system calls, counted between the process and the C library.

The server is a process of its own, in which a small library that is loaded first counts the calls; so both builds are
measured alike, and nothing of them is replaced.
"""

import collections
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import preload
import pytest
from pollers import epoll_only

import epoll_loop

pytestmark = epoll_only

ROOT = Path(epoll_loop.__file__).parent.parent
CONNECTIONS = 10

COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { RECV, SEND, SENDMSG, RECVMMSG, SENDMMSG, ACCEPT, ADD, MOD, DEL, WAIT, KINDS };
static const char *names[KINDS] = {
    "recv", "send", "sendmsg", "recvmmsg", "sendmmsg", "accept", "add", "mod", "del", "wait",
};
static long counts[KINDS];

#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

ssize_t recv(int fd, void *buffer, size_t size, int flags) {
    counts[RECV]++;
    return REAL(recv)(fd, buffer, size, flags);
}
ssize_t send(int fd, const void *buffer, size_t size, int flags) {
    counts[SEND]++;
    return REAL(send)(fd, buffer, size, flags);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    counts[SENDMSG]++;
    return REAL(sendmsg)(fd, message, flags);
}
int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout) {
    counts[RECVMMSG]++;
    return REAL(recvmmsg)(fd, messages, count, flags, timeout);
}
int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    counts[SENDMMSG]++;
    return REAL(sendmmsg)(fd, messages, count, flags);
}
int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    counts[ACCEPT]++;
    return REAL(accept4)(fd, address, size, flags);
}
int epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
    counts[operation == EPOLL_CTL_ADD ? ADD : operation == EPOLL_CTL_MOD ? MOD : DEL]++;
    return REAL(epoll_ctl)(set, operation, fd, event);
}
int epoll_wait(int set, struct epoll_event *events, int size, int timeout) {
    counts[WAIT]++;
    return REAL(epoll_wait)(set, events, size, timeout);
}
__attribute__((destructor)) static void report(void) {
    FILE *file = fopen(getenv("COUNTS"), "w");
    for (int i = 0; file && i < KINDS; i++)
        fprintf(file, "%s %ld\n", names[i], counts[i]);
    if (file)
        fclose(file);
}
"""

# Ends when the last of the connections that it was told of is gone.
SERVER = """
    import asyncio, sys
    import epoll_loop

    kind, connections = sys.argv[1], int(sys.argv[2])

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
        def data_received(self, data):
            self.transport.write(data)
        def connection_lost(self, exc):
            global connections
            connections -= 1
            if not connections:
                done.set()

    class Pausing(Echo):
        def data_received(self, data):
            self.transport.pause_reading()
            self.transport.write(data)
            loop.call_soon(self.transport.resume_reading)

    class Changing(Echo):
        def data_received(self, data):
            self.transport.write(data)
            other = Changing()
            other.transport = self.transport
            self.transport.set_protocol(other)

    class Buffered(Echo, asyncio.BufferedProtocol):
        buffer = bytearray(4096)
        def get_buffer(self, hint):
            return self.buffer
        def buffer_updated(self, count):
            self.transport.write(bytes(self.buffer[:count]))

    class Chatty(Echo):
        def data_received(self, data):
            for byte in data:
                self.transport.write(bytes([byte]))

    class Blocked(Echo):
        def data_received(self, data):
            self.transport.write(data * 160_000)
            assert self.transport.get_write_buffer_size()

    class HalfClosed(Echo):
        def eof_received(self):
            loop.call_later(0.3, self.transport.close)
            return True

    kinds = {
        "echo": Echo, "pausing": Pausing, "changing": Changing, "buffered": Buffered, "chatty": Chatty,
        "blocked": Blocked, "half-closed": HalfClosed,
    }

    async def main():
        global loop, done
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        server = await loop.create_server(kinds[kind], "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        if connections:
            await done.wait()
        server.close()
        await server.wait_closed()

    epoll_loop.run(main())
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that counts."""
    source = tmp_path_factory.mktemp("counter") / "counter.c"
    source.write_text(COUNTER)
    return preload.compiled(source, source.with_suffix(".so"))


class Server:
    """An echo server in a process, and its clients in this one."""

    def __init__(self, kind: str, connections: int, wrapper: list[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", textwrap.dedent(SERVER), kind, str(connections)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        port = int(self.process.stdout.readline())
        self.clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(connections)]

    def request(self, rounds: int) -> None:
        data = b"x" * 100
        for _ in range(rounds):
            for client in self.clients:
                client.sendall(data)
            for client in self.clients:
                assert client.recv(100, socket.MSG_WAITALL) == data

    def finish(self) -> None:
        for client in self.clients:
            client.close()
        assert self.process.wait(20) == 0

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exc: object) -> None:
        for client in self.clients:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Counted:
    """Runs servers and returns what they cost beyond one that has no connection."""

    def __init__(self, library: Path, tmp_path: Path) -> None:
        self.file = tmp_path / "counts"
        self.environment = preload.environment(library, COUNTS=str(self.file))

    def serve(self, kind: str, connections: int = CONNECTIONS) -> Server:
        return Server(kind, connections, [], self.environment)

    def run(self, code: str, *arguments: object) -> None:
        command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, timeout=60)

    def costs(self) -> "collections.Counter[str]":
        found = self._read()
        with self.serve("echo", 0) as idle:
            idle.finish()
        found.subtract(self._read())
        return found

    def _read(self) -> "collections.Counter[str]":
        pairs = (line.split() for line in self.file.read_text().splitlines())
        return collections.Counter({name: int(count) for name, count in pairs})


@pytest.fixture
def counted(counter: Path, tmp_path: Path) -> Iterator[Counted]:
    return Counted(counter, tmp_path)


def test_10_000_requests_on_10_connections(counted: Counted) -> None:
    """One recv and one send a request; one registration and one removal a connection."""
    rounds = 1000
    with counted.serve("echo") as server:
        server.request(rounds)
        server.finish()
    costs = counted.costs()
    requests = rounds * CONNECTIONS
    assert costs["send"] == requests
    assert costs["sendmsg"] == 0
    # Beside the requests: the end of each stream, and perhaps a wake-up in vain.
    assert requests + CONNECTIONS <= costs["recv"] <= requests + 3 * CONNECTIONS
    assert (costs["add"], costs["mod"], costs["del"]) == (CONNECTIONS, 0, CONNECTIONS)
    # One accept each, and one that finds nothing for each time that some have come.
    assert CONNECTIONS < costs["accept"] <= 2 * CONNECTIONS


@pytest.mark.parametrize("kind", ["pausing", "changing", "buffered"])
def test_what_costs_no_system_call(counted: Counted, kind: str) -> None:
    """Pausing, resuming and changing the protocol are not the kernel's business (I7)."""
    rounds = 100
    with counted.serve(kind) as server:
        server.request(rounds)
        server.finish()
    costs = counted.costs()
    requests = rounds * CONNECTIONS
    assert costs["send"] == requests
    assert requests <= costs["recv"] <= requests + 3 * CONNECTIONS
    assert (costs["add"], costs["mod"], costs["del"]) == (CONNECTIONS, 0, CONNECTIONS)


def test_many_small_writes_are_one_send(counted: Counted) -> None:
    rounds = 50
    with counted.serve("chatty") as server:
        server.request(rounds)
        server.finish()
    costs = counted.costs()
    assert costs["send"] + costs["sendmsg"] == rounds * CONNECTIONS


def test_a_blocked_writer_asks_the_kernel_for_nothing(counted: Counted) -> None:
    """It is registered for both directions already, and an edge tells of the room."""
    with counted.serve("blocked", 1) as server:
        (client,) = server.clients
        client.sendall(b"x" * 100)
        client.recv(1, socket.MSG_PEEK)
        time.sleep(0.05)  # it is much more than the kernel takes of it, as long as nobody reads
        left = 16_000_000
        while left:
            left -= len(client.recv(65536))
        server.finish()
    costs = counted.costs()
    assert (costs["add"], costs["mod"], costs["del"]) == (1, 0, 1)
    assert costs["send"] >= 2


def test_half_closed_connections_do_not_keep_the_loop_awake(counted: Counted) -> None:
    """The kernel would say for ever that there is an end to read; it is read once."""
    with counted.serve("half-closed") as server:
        server.request(1)
        for client in server.clients:
            client.shutdown(socket.SHUT_WR)
        for client in server.clients:
            assert client.recv(1) == b""
        server.finish()
    costs = counted.costs()
    assert costs["wait"] < 20 * CONNECTIONS
    assert costs["recv"] <= 3 * CONNECTIONS


# Sixteen datagrams at a time, to an endpoint in the same process.
DATAGRAMS = """
    import asyncio, socket, sys
    import epoll_loop

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport
        def datagram_received(self, data, address):
            self.transport.sendto(data, address)

    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.connect(transport.get_extra_info("sockname"))
            peer.settimeout(0)
            for _ in range(int(sys.argv[1])):
                for _ in range(16):
                    peer.send(b"x" * 64)
                left = 16
                while left:
                    await asyncio.sleep(0)
                    try:
                        while peer.recv(100):
                            left -= 1
                    except BlockingIOError:
                        pass
        transport.close()

    epoll_loop.run(main())
"""


@pytest.mark.skipif(not epoll_loop.COMPILED, reason="the socket module receives and sends one at a time")
def test_datagrams_are_received_and_sent_together(counted: Counted) -> None:
    """One system call for what has come, one for what an iteration has sent; no second one to learn that it was all."""
    rounds = 100
    counted.run(DATAGRAMS, rounds)
    costs = counted._read()
    assert costs["recvmmsg"] <= rounds + 1  # an endpoint may look into an empty socket once
    assert costs["sendmmsg"] == rounds


# A Unix socket whose receiver does not read; poll(2) says writable all the time.
FULL = """
    import asyncio, socket, sys
    import epoll_loop

    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind("")
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, family=socket.AF_UNIX)
            while not transport.get_write_buffer_size():
                transport.sendto(b"x", receiver.getsockname())
                await asyncio.sleep(0)
            await asyncio.sleep(0.2)
        transport.abort()

    epoll_loop.run(main())
"""


@pytest.mark.skipif(not epoll_loop.COMPILED, reason="the socket module sends one at a time")
def test_a_full_queue_of_a_receiver_is_not_asked_again_and_again(counted: Counted) -> None:
    counted.run(FULL)
    assert 10 <= counted._read()["sendmmsg"] <= 30  # so many fit, and then a try now and then


def traces() -> bool:
    """Whether there is an strace that may trace."""
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not traces(), reason="no strace here; the counting library has shown the same")
def test_the_kernel_counts_the_same(tmp_path: Path) -> None:
    summary = tmp_path / "summary"
    calls = "recvfrom,sendto,sendmsg,epoll_ctl"
    wrapper = ["strace", "-f", "-c", "--seccomp-bpf", "-e", f"trace={calls}", "-o", str(summary)]
    rounds = 100
    with Server("echo", CONNECTIONS, wrapper, os.environ) as server:
        server.request(rounds)
        server.finish()
    found = dict.fromkeys(calls.split(","), 0)
    for line in summary.read_text().splitlines():
        match = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if match and match[2] in found:
            found[match[2]] = int(match[1])
    requests = rounds * CONNECTIONS
    assert found["sendto"] == requests
    assert found["sendmsg"] == 0
    assert requests + CONNECTIONS <= found["recvfrom"] <= requests + 3 * CONNECTIONS
    # The loop's own, two for the listener, two a connection.
    assert 2 * CONNECTIONS + 2 <= found["epoll_ctl"] <= 2 * CONNECTIONS + 8
