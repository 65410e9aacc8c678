"""serve() on many loops in threads, as on a free-threaded Python; the threads are the same with the GIL."""

import asyncio
import collections
import concurrent.futures
import logging
import queue
import socket
import threading

import pytest
from many import TCP, Client
from programs import Up
from recording import LIMIT

import epoll_loop
from epoll_loop import Action
from epoll_loop.serving.addresses import parse
from epoll_loop.serving.job import Job
from epoll_loop.serving.run import _serve_many
from epoll_loop.serving.threads import Thread

pytestmark = pytest.mark.usefixtures("no_descriptor_left")
BALANCES = ["random", "round-robin", "least-connections"]


class Shared(epoll_loop.Events):
    """One for all loops: says which it is to each that comes, and echoes."""

    def __init__(self):
        self.local = threading.local()
        self.serves = queue.Queue()
        self.waits = queue.Queue()
        self.release = threading.Event()
        self.failing = 0

    def serving(self, server):
        self.local.index = server.loop_index
        self.server = server
        if self.failing:
            self.failing -= 1
            raise ZeroDivisionError("in serving()")

    def tick(self):
        self.serves.put((self.local.index, self.server.loops, self.server.addresses))

    def opened(self, conn):
        return bytes([self.local.index])

    def data(self, conn, data):
        match bytes(data):
            case b"exit":
                raise SystemExit
            case b"end":
                return b"!", Action.SHUTDOWN
            case b"hang":
                self.waits.put(self.local.index)
                self.release.wait(LIMIT)
            case b"hang and exit":
                self.waits.put(self.local.index)
                self.release.wait(LIMIT)
                raise SystemExit
        return data


class Server:
    """The server, in a thread; a context that ends it."""

    def __init__(self, *addresses, loops=2, balance="random", events=None, **options):
        self.events = events or Shared()
        self.loops = loops
        self.pool = concurrent.futures.ThreadPoolExecutor()
        self.clients = []
        self.up = threading.Event()
        self.log = Up(self.up.set)
        arguments = (self.events, addresses or (TCP,), loops, balance, options, True)
        self.over = self.pool.submit(_serve_many, *arguments)
        self.over.add_done_callback(lambda over: self.events.serves.put(None))

    def __enter__(self):
        for _ in range(self.loops):
            self.next_one()
        assert self.up.wait(LIMIT)
        self.log.close()
        return self

    def __exit__(self, *exc):
        if not self.over.done():
            self.events.server.call(self.events.server.shutdown)
        for client in self.clients:
            client.close()
        self.over.result(LIMIT)
        self.pool.shutdown()

    def next_one(self):
        """Wait for a loop to serve, and return which."""
        found = self.events.serves.get(timeout=LIMIT)
        assert found, self.over.result()
        index, loops, self.addresses = found
        assert loops == self.loops
        return index

    def comes(self, address=None):
        """A client that nobody serves yet."""
        client = Client(self.addresses[0] if address is None else address)
        self.clients.append(client)
        return client

    def client(self, address=None):
        return self.comes(address).arrive()

    def stuck(self, *clients):
        """Have the loops of these stuck, to end at `events.release`."""
        for client in clients:
            client.sock.sendall(b"hang and exit")
            assert self.events.waits.get(timeout=LIMIT) == client.index

    def pairs(self, count):
        """Clients of both loops in turn; those of loop 0, which is stuck, are returned."""
        pairs = [(self.comes(), self.client()) for _ in range(count)]
        assert [(first.has_come(), second.index) for first, second in pairs] == [(False, 1)] * count
        return [first for first, _ in pairs]

    def client_of(self, index):
        return next(client for client in (self.client() for _ in range(1000)) if client.index == index)


@pytest.mark.parametrize("balance", BALANCES)
def test_the_distribution(balance):
    """All of the connections stay."""
    with Server(loops=4, balance=balance) as server:
        counts = collections.Counter(server.client().index for _ in range(200))
    assert sorted(counts) == [0, 1, 2, 3]
    if balance != "random":
        assert set(counts.values()) == {50}


def test_the_fewest_are_made_up_for():
    with Server(loops=4, balance="least-connections") as server:
        for _ in range(40):
            server.client()
        last = server.client_of(3)  # the 44th
        for client in server.clients[:-1]:
            if client.index == 3:
                client.close()
        last.notice()
        kept = [client for client in server.clients if client.index != 3] + [last]
        kept += [server.client() for _ in range(120 - len(kept))]
        counts = collections.Counter(client.index for client in kept)
        assert set(counts.values()) == {30}


@pytest.mark.parametrize("balance", ["random", "round-robin"])
def test_all_kinds_of_addresses(tmp_path, balance):
    path = str(tmp_path / "socket")
    with Server(TCP, f"unix://{path}", "udp://127.0.0.1:0", balance=balance) as server:
        assert server.client().say(b"hello") == b"hello"
        assert server.client(path).say(b"hello") == b"hello"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(LIMIT)
            udp.connect(server.addresses[2])
            udp.send(b"datagram")
            assert udp.recv(100) == b"datagram"
    assert not (tmp_path / "socket").exists()


@pytest.mark.parametrize("balance", ["random", "round-robin"])
def test_shutdown_by_one_ends_all(balance):
    with Server(balance=balance) as server:
        first, second = server.client_of(0), server.client_of(1)
        first.sock.sendall(b"end")
        assert first.rest() == 1
        assert second.rest() == 0
        server.over.result(LIMIT)


@pytest.mark.parametrize("balance", BALANCES)
def test_one_that_ends_is_replaced(balance, caplog):
    with Server(balance=balance) as server:
        first, second = server.client_of(0), server.client_of(1)
        server.events.failing = 2
        first.sock.sendall(b"exit")
        assert first.rest() == 0
        assert second.say(b"untouched") == b"untouched"
        assert server.next_one() == 0
        assert server.client_of(0).say(b"hello") == b"hello"
        assert second.say(b"untouched") == b"untouched"
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text[:33] for text in told] == ["worker 0: its thread has ended; t"] * 3
    assert "ZeroDivisionError: in serving()" in caplog.text


@pytest.mark.parametrize("balance", ["round-robin", "least-connections"])
def test_what_one_that_ends_has_not_taken_is_served_by_another(balance):
    """And is counted there."""
    with Server(balance=balance) as server:
        first, _ = server.client_of(0), server.client_of(1)
        server.stuck(first)
        untaken = server.pairs(10)
        server.events.release.set()
        assert first.rest() == 0
        for client in untaken:
            assert client.arrive().index == 1
            assert client.say(b"hello") == b"hello"
        assert server.next_one() == 0
        if balance == "least-connections":
            server.client_of(0)
            more = sum(client.index for client in server.clients) - 1  # than this one, at loop 1
            assert [server.client().index for _ in range(more)] == [0] * more
            assert {server.client().index, server.client().index} == {0, 1}


def test_what_those_that_end_have_not_taken_waits_for_the_next_one():
    with Server(balance="round-robin") as server:
        server.stuck(server.client_of(0), server.client_of(1))
        untaken = [server.comes() for _ in range(10)]
        server.events.release.set()
        assert [client.arrive().say(b"hello") for client in untaken] == [b"hello"] * 10


def test_what_was_not_taken_is_closed_at_the_end():
    with Server(balance="round-robin") as server:
        first, second = server.client_of(0), server.client_of(1)
        server.stuck(first)
        untaken = server.pairs(10)
        second.sock.sendall(b"end")
        assert second.rest() == 1
        server.events.release.set()
        server.over.result(LIMIT)
        assert [client.rest() for client in untaken] == [0] * 10


class Place:
    """What a thread tells of itself."""

    def __init__(self):
        self.serves = asyncio.Event()
        self.gone = asyncio.Event()
        self.had_back = []

    def ready(self):
        self.serves.set()

    def ended(self, how, error):
        self.error = error
        self.gone.set()

    def untaken(self, connections):
        self.had_back += connections


def leave():
    raise SystemExit


async def test_a_connection_for_one_that_has_just_ended():
    """The parent does not know yet."""
    place = Place()
    job = Job(Shared(), [parse(TCP)], [("127.0.0.1", 1)], {}, 1, 1, False)
    thread = Thread(asyncio.get_running_loop(), job, 0, [[]], place)
    ours, theirs = socket.socketpair()
    peer, taken = socket.socketpair()
    with ours, peer:
        peer.settimeout(LIMIT)
        async with asyncio.timeout(LIMIT):
            await place.serves.wait()
            thread.hand(0, taken)
            assert peer.recv(1) == b"\0"
            thread._server.call(leave)
            thread._thread.join(LIMIT)
            thread.hand(7, theirs)
            await place.gone.wait()
        assert isinstance(place.error, SystemExit)
        assert place.had_back == [(7, theirs)]
        theirs.close()


def test_one_that_can_not_start():
    events = Shared()
    events.failing = 1
    server = Server(events=events)
    with pytest.raises(ZeroDivisionError):
        server.over.result(LIMIT)
    server.pool.shutdown()
    server.log.close()


def test_one_that_does_not_end_is_left_behind(caplog):
    with Server(shutdown_timeout=0) as server:
        first, second = server.client_of(0), server.client_of(1)
        second.sock.sendall(b"hang")
        assert server.events.waits.get(timeout=LIMIT) == 1
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("epoll_loop-")]
        first.sock.sendall(b"end")
        server.over.result(LIMIT)
        assert "worker 1 did not end in time" in caplog.text
        server.events.release.set()
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
