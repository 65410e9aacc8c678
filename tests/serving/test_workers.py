"""serve() on many loops in processes: who gets what, and what becomes of it when one of them ends."""

import collections
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys

import programs
import pytest
import tls
from many import ROOT, TCP, Client, Program
from recording import LIMIT

import epoll_loop
from epoll_loop.serving.workers import Place

pytestmark = [
    pytest.mark.usefixtures("no_descriptor_left"),
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="they are watched by pidfd_open()"),
]

BALANCES = ["random", "round-robin", "least-connections"]
MANY = 10_000
ROUND = 50  # that many connect before the first is waited for


def distribute(program, count):
    """How many of so many connections come to each worker; each is closed before the next round."""
    counts = collections.Counter()
    for _ in range(count // ROUND):
        clients = [Client(program.addresses[0]) for _ in range(ROUND)]
        for client in clients:
            counts[client.arrive().index] += 1
            client.close()
    return counts


def test_random(tmp_path):
    """It is the kernel's, and all that it promises is that none is left out in the long run."""
    with Program(tmp_path, loops=4) as program:
        counts = distribute(program.ready(), MANY)
        assert sorted(counts) == [0, 1, 2, 3]
        assert counts.total() == MANY


def test_round_robin(tmp_path):
    with Program(tmp_path, loops=4, balance="round-robin") as program:
        assert distribute(program.ready(), MANY) == dict.fromkeys(range(4), MANY // 4)


def test_least_connections(tmp_path):
    """Again and again most of the clients go, of one worker more than of the other; those that come make it good.

    One of each stays, to tell when its worker has noticed the end of the others.
    """
    dice = random.Random(1)
    with Program(tmp_path, loops=4, balance="least-connections") as program:
        program.ready()
        kept = []
        for _ in range(MANY // 400):
            for _ in range(400 // ROUND):
                clients = [Client(program.addresses[0]) for _ in range(ROUND)]
                kept += [client.arrive() for client in clients]
            counts = collections.Counter(client.index for client in kept)
            assert sorted(counts) == [0, 1, 2, 3]
            assert max(counts.values()) - min(counts.values()) <= 1, counts
            unlucky = dice.randrange(4)
            first = {client.index: client for client in reversed(kept)}
            stay = [client for client in kept if client.index != unlucky and dice.random() < 0.2 * client.index]
            stay += set(first.values()) - set(stay)
            for client in set(kept) - set(stay):
                client.close()
            for client in first.values():
                client.notice()
            kept = stay
        for client in kept:
            client.close()


@pytest.mark.parametrize("balance", ["random", "round-robin"])
def test_all_kinds_of_addresses(tmp_path, balance):
    """And many of them at once, each with what comes back from where it was sent to."""
    path = str(tmp_path / "socket")
    addresses = [TCP, "tcp6://[::1]:0", f"unix://{path}", "udp://127.0.0.1:0"]
    with Program(tmp_path, *addresses, balance=balance) as program:
        program.ready()
        assert program.addresses[2] == path
        assert [line["addresses"] for line in program.served.values()] == [program.addresses] * 2
        for address in program.addresses[:3]:
            assert program.client(address).say(b"hello") == b"hello"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(LIMIT)
            udp.connect(tuple(program.addresses[3]))
            udp.send(b"datagram")
            assert udp.recv(100)[1:] == b"datagram"
        program.process.terminate()
        program.is_over()
        assert not os.path.exists(path)


def test_datagrams_come_to_all(tmp_path):
    with Program(tmp_path, "udp://127.0.0.1:0") as program:
        program.ready()
        seen = set()
        for _ in range(200):  # each from a port of its own
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.settimeout(LIMIT)
                udp.connect(tuple(program.addresses[0]))
                udp.send(b"x")
                seen.add(udp.recv(2)[0])
        assert seen == {0, 1}


@pytest.mark.parametrize("balance", ["random", "round-robin"])
def test_tls_in_each_worker(tmp_path, monkeypatch, balance):
    file = tmp_path / "certificate"
    file.write_text(tls.CERTIFICATE.pem)
    monkeypatch.setenv("CERTIFICATE", str(file))
    context = tls.client_context()
    with Program(tmp_path, balance=balance, tls=True) as program:
        program.ready()
        plain = Client(program.addresses[0])
        plain.sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        plain.rest()  # which is not the byte of a worker, but what TLS says of it
        plain.close()
        seen = set()
        for _ in range(100):
            with context.wrap_socket(Client(program.addresses[0]).sock, **tls.NAME) as client:
                seen.add(client.recv(1)[0])
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"
            if len(seen) == 2:
                break
        assert seen == {0, 1}
        program.process.terminate()
        program.is_over()


@pytest.mark.parametrize("balance", ["random", "round-robin"])
def test_a_worker_is_killed(tmp_path, balance):
    """Its connections end, the others go on, and the next worker serves in its place."""
    with Program(tmp_path, balance=balance) as program:
        program.ready()
        first, second = program.clients_of_all()
        program.kill(0)
        assert first.rest() == 0
        assert second.say(b"untouched") == b"untouched"
        old = program.served[0]["pid"]
        new = program.next_worker()
        assert new["index"] == 0
        assert new["pid"] != old
        assert program.client_of(0).say(b"hello") == b"hello"
        assert second.say(b"untouched") == b"untouched"
        program.process.terminate()
        program.is_over()
        assert program.log().count(f"worker 0: its process {old} has ended with signal 9 (Killed)") == 1


def test_the_count_of_a_killed_worker_begins_again(tmp_path):
    with Program(tmp_path, balance="least-connections") as program:
        program.ready()
        for _ in range(20):
            program.client()
        program.kill(0)
        assert program.next_worker()["index"] == 0
        program.client_of(0)  # when it is ready
        assert [program.client().index for _ in range(8)] == [0] * 8


def test_one_that_is_asked_to_end_is_replaced(tmp_path):
    """SIGTERM for a worker: what was queued goes out, and what came meanwhile is served."""
    with Program(tmp_path, balance="round-robin") as program:
        program.ready()
        first, second = program.clients_of_all()
        first.sock.sendall(b"big")
        data = first.sock.recv(1)
        program.kill(0, signal.SIGTERM)
        assert len(data) + first.rest() == programs.SIZE
        assert program.next_worker()["index"] == 0
        assert second.say(b"untouched") == b"untouched"
        program.process.terminate()
        program.is_over()
        assert program.log().count("has ended with exit code 0") == 1


def test_a_worker_that_can_not_start_again_is_tried_again(tmp_path):
    """It goes wrong in two ways: each is told of once, and the others serve."""
    with Program(tmp_path, folder=str(tmp_path), start="twice") as program:
        program.ready()
        second = program.client_of(1)
        program.kill(0)
        assert program.next_worker()["index"] == 0
        assert program.client_of(0).say(b"hello") == b"hello"
        assert second.say(b"untouched") == b"untouched"
        program.process.terminate()
        program.is_over()
        log = program.log()
        assert log.count("the next one begins in") == 3
        assert [log.count(text) for text in ("signal 9", "exit code 1", "exit code 7")] == [1, 1, 1]
        assert log.count("ZeroDivisionError: start 3") >= 1


def test_the_delay_grows_until_one_has_served_for_a_while():
    place = Place(None, 0)
    delays = []
    for _ in range(8):
        place.begin(None, 100)
        delays.append(place.delay(100.5))
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    place.begin(None, 100)
    assert place.delay(105) == 0.1


@pytest.mark.parametrize(("start", "text"), [("raise", "ZeroDivisionError: in serving()"), ("exit", "exit code 3")])
def test_workers_that_can_not_start(tmp_path, start, text):
    with Program(tmp_path, start=start) as program:
        line = program.line()
        assert text in line.pop("over")
        assert line == {"descriptors": 0, "children": 0}
        assert program.process.wait(LIMIT) == 0
        assert "the next one begins" not in program.log()


@pytest.mark.parametrize("loops", [1, 2])
def test_shutdown_at_once(tmp_path, loops):
    with Program(tmp_path, loops=loops, start="shutdown") as program:
        program.is_over()


@pytest.mark.parametrize("balance", ["random", "round-robin"])
def test_shutdown_by_one_ends_all(tmp_path, balance):
    with Program(tmp_path, balance=balance) as program:
        program.ready()
        first, second = program.clients_of_all()
        first.sock.sendall(b"end")
        assert first.rest() == 1
        assert second.rest() == 0
        program.is_over()


@pytest.mark.parametrize(
    ("number", "how"), [(signal.SIGTERM, "ended"), (signal.SIGINT, "KeyboardInterrupt")], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_has_all_sent(tmp_path, number, how):
    with Program(tmp_path, balance="round-robin") as program:
        program.ready()
        clients = program.clients_of_all()
        first = []
        for client in clients:
            client.sock.sendall(b"big")
            first.append(len(client.sock.recv(1)))
        program.process.send_signal(number)
        assert [size + client.rest() for size, client in zip(first, clients, strict=True)] == [programs.SIZE] * 2
        program.is_over(how)
        with pytest.raises(ConnectionRefusedError):
            Client(program.addresses[0])


def test_an_interrupt_of_the_whole_terminal(tmp_path):
    """The workers leave it to the parent."""
    with Program(tmp_path) as program:
        program.ready()
        for index in range(2):
            program.kill(index, signal.SIGINT)
        assert [client.say(b"hello") for client in program.clients_of_all()] == [b"hello"] * 2
        program.process.send_signal(signal.SIGINT)
        program.is_over("KeyboardInterrupt")
        assert program.log() == ""


def test_a_worker_that_does_not_end_is_killed(tmp_path):
    with Program(tmp_path, shutdown_timeout=0.1) as program:
        program.ready()
        client = program.client_of(1)
        client.sock.sendall(b"hang")
        assert program.line() == {"hangs": 1}
        program.process.terminate()
        program.is_over()
        assert "worker 1 did not end in time" in program.log()


def test_a_second_interrupt_waits_for_nobody(tmp_path):
    with Program(tmp_path, shutdown_timeout=1000) as program:
        program.ready()
        first, second = program.clients_of_all()
        second.sock.sendall(b"hang")
        assert program.line() == {"hangs": 1}
        program.process.send_signal(signal.SIGINT)
        assert first.rest() == 0
        program.process.send_signal(signal.SIGINT)
        program.is_over("KeyboardInterrupt")


@pytest.mark.parametrize("balance", ["random", "round-robin"])
def test_the_parent_is_killed(tmp_path, balance):
    """The workers send what is queued, and end by themselves."""
    with Program(tmp_path, balance=balance) as program:
        program.ready()
        first, second = program.clients_of_all()
        first.sock.sendall(b"big")
        begun = len(first.sock.recv(1))
        program.process.kill()
        assert begun + first.rest() == programs.SIZE
        assert second.rest() == 0
        program.until_gone()


class Unpicklable(epoll_loop.Events):
    def __init__(self):
        self.what = lambda: None


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"loops": 0}, ValueError, "loops is a number from 1 on, not 0"),
        ({"loops": -1}, ValueError, "not -1"),
        ({"loops": True}, ValueError, "not True"),
        ({"loops": "2"}, ValueError, "not '2'"),
        ({"loops": 2, "balance": "fair"}, ValueError, "balance is one of random, .*, not 'fair'"),
        ({"loops": 1, "balance": "fair"}, ValueError, "balance is one of random, .*, not 'fair'"),
        ({"loops": 2, "events": Unpicklable()}, TypeError, "is pickled, and .*Unpicklable.* can not be"),
        ({"loops": 2, "tls": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, TypeError, "tls is a function that returns one"),
        ({"loops": 2, "addresses": []}, ValueError, "no address to serve"),
        ({"loops": 2, "addresses": [TCP, "http://127.0.0.1:1"]}, ValueError, "begins with none of"),
        ({"loops": 2, "addresses": [TCP, "unix:///nonexistent/folder/socket"]}, OSError, "No such file"),
        ({"loops": 2, "unknown": 1}, TypeError, "unknown"),
    ],
)
def test_bad_arguments(options, error, text):
    """Before anything is started."""
    options = {"addresses": [TCP], "events": epoll_loop.Events(), **options}
    with pytest.raises(error, match=text):
        epoll_loop.serve(options.pop("events"), *options.pop("addresses"), **options)


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_busy_port(balance, kind):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        scheme = "tcp" if kind == socket.SOCK_STREAM else "udp"
        with pytest.raises(OSError, match="in use"):
            epoll_loop.serve(
                epoll_loop.Events(), f"{scheme}://127.0.0.1:{sock.getsockname()[1]}", loops=2, balance=balance
            )


SERVES = """
import epoll_loop
class Mine(epoll_loop.Events):
    pass
epoll_loop.serve(Mine(), "tcp://127.0.0.1:0", loops=2)
"""


def run(*command):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=LIMIT, env=env)


def test_events_that_are_nowhere_to_be_imported():
    done = run("-c", SERVES)
    assert done.returncode == 1
    assert "TypeError: what many processes serve is imported by each of them: " in done.stderr.splitlines()[-1]


def test_a_program_that_serves_when_it_is_imported(tmp_path):
    """Without `if __name__ == "__main__"`: multiprocessing says so, and it ends."""
    file = tmp_path / "program.py"
    file.write_text(SERVES)
    done = run(file)
    assert done.returncode == 1
    assert "if __name__ == '__main__':" in done.stderr
    assert re.search(r"RuntimeError: worker [01] did not serve", done.stderr)


def test_one_loop_has_no_need_of_multiprocessing():
    program = """
import sys, epoll_loop
class Once(epoll_loop.Events):
    def tick(self):
        return 0, epoll_loop.Action.SHUTDOWN
epoll_loop.serve(Once(), "tcp://127.0.0.1:0")
print("multiprocessing" in sys.modules)
"""
    done = run("-c", program)
    assert (done.stdout, done.stderr) == ("False\n", "")
