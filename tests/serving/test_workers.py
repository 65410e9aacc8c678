"""serve() on many loops in processes: who gets what, and what becomes of it when one of them ends."""

import asyncio
import contextlib
import os
import re
import signal
import socket
from types import SimpleNamespace

import programs
import pytest
import tls
from many import TCP, Client, Program
from programs import Up
from recording import LIMIT

from epoll_loop.serving.messages import _MANY
from epoll_loop.serving.workers import Place, Workers

pytestmark = [
    pytest.mark.usefixtures("no_descriptor_left"),
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="they are watched by pidfd_open()"),
]

BALANCES = ["random", "round-robin", "least-connections"]


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


@pytest.mark.parametrize("balance", BALANCES)
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


def stuck(program, how=b"hang"):
    """Have worker 0 stuck, and clients come to it until it takes no more: the last of them wait in the parent."""
    first, _ = program.clients_of_all()
    first.sock.sendall(how)
    assert program.line() == {"hangs": 0}
    clients = program.until_behind()
    return clients[:-_MANY], clients[-_MANY:]


@pytest.mark.parametrize("forks", [False, True])
def test_what_a_killed_worker_was_not_sent_is_served_by_another(tmp_path, forks):
    """What it was sent ends with it, and with what it has forked, which has its end of the messages too."""
    with Program(tmp_path, balance="round-robin") as program:
        program.ready()
        if forks:
            first, _ = program.clients_of_all()
            assert first.say(b"fork") == b"!"
            forked = program.line()["forked"]
            program.has(forked)
        sent, unsent = stuck(program)
        program.kill(0)
        assert [client.arrive().say(b"hello") for client in unsent] == [b"hello"] * _MANY
        if forks:
            signal.pidfd_send_signal(program.pidfds[forked], signal.SIGKILL)
        assert [client.rest() for client in sent] == [0] * len(sent)
        assert program.next_worker()["index"] == 0
        assert program.client_of(0).say(b"hello") == b"hello"
        program.process.terminate()
        program.is_over()


@pytest.mark.parametrize("how", [b"wait and leave", b"wait and exit"])
def test_what_was_not_sent_to_one_that_takes_no_more_is_served_at_once(tmp_path, how):
    """And not when its process ends, which it does not."""
    with Program(tmp_path, balance="round-robin", shutdown_timeout=1000) as program:
        program.ready()
        _, unsent = stuck(program, how)
        program.kill(0, signal.SIGUSR1)
        assert unsent[-1].arrive().index == 1
        assert unsent[-1].say(b"hello") == b"hello"
        program.kill(0)
        assert program.next_worker()["index"] == 0
        program.process.terminate()
        program.is_over()


def test_what_was_not_sent_is_closed_at_the_end(tmp_path):
    with Program(tmp_path, balance="round-robin", shutdown_timeout=0) as program:
        program.ready()
        sent, unsent = stuck(program)
        program.process.terminate()
        assert [client.rest() for client in sent + unsent] == [0] * len(sent + unsent)
        program.is_over()


def test_one_that_is_killed_and_has_forked(tmp_path):
    """What it has forked has all that it had open, besides the connection to its parent."""
    with Program(tmp_path, balance="round-robin") as program:
        program.ready()
        client = program.client_of(0)
        assert client.say(b"fork") == b"!"
        forked = program.line()["forked"]
        program.has(forked)
        program.kill(0)
        assert program.next_worker()["index"] == 0
        assert program.client_of(0).say(b"hello") == b"hello"
        signal.pidfd_send_signal(program.pidfds[forked], signal.SIGKILL)
        program.process.terminate()
        program.is_over()


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


def test_one_that_hangs_when_it_is_asked_to_end_is_killed(tmp_path):
    with Program(tmp_path, balance="round-robin", shutdown_timeout=0) as program:
        program.ready()
        first, second = program.clients_of_all()
        assert first.say(b"stay") == b"!"
        program.kill(0, signal.SIGTERM)
        assert program.next_worker()["index"] == 0
        assert second.say(b"untouched") == b"untouched"
        program.process.terminate()
        program.is_over()
        assert "worker 0 did not end in time" in program.log()


@pytest.mark.parametrize("balance", ["random", "least-connections"])
def test_a_worker_that_can_not_start_again_is_tried_again(tmp_path, balance):
    """It goes wrong in two ways: each is told of once, and the others serve."""
    with Program(tmp_path, balance=balance, folder=str(tmp_path), start="twice") as program:
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
        assert log.count("ZeroDivisionError: failure 1") >= 1


def test_a_worker_that_can_never_start_again(tmp_path):
    """Then the others serve, until the end."""
    with Program(tmp_path, balance="round-robin", folder=str(tmp_path), start="ever") as program:
        program.ready()
        second = program.client_of(1)
        program.kill(0)
        assert [program.line() for _ in range(3)] == [{"fails": number} for number in (1, 2, 3)]
        assert second.say(b"untouched") == b"untouched"
        assert [program.client().index for _ in range(4)] == [1] * 4
        program.process.terminate()
        program.is_over()
        assert re.findall(r"the next one begins in ([\d.]+) s", program.log())[:3] == ["0.1", "0.2", "0.4"]


def test_the_delay_grows_until_one_has_served_for_a_while():
    """However long those take that do not serve in the end."""
    now = 0.0
    place = Place(SimpleNamespace(loop=SimpleNamespace(time=lambda: now), ready=lambda: None), 0)
    place.ready()
    delays = [place.delay(4.9)] + [place.delay(100 * number) for number in range(1, 8)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    now = 1000.0
    place.ready()
    assert place.delay(1004.9) == 5
    place.ready()
    assert place.delay(1005.0) == 0.1


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


@pytest.mark.parametrize("waits", [True, False])
def test_sigterm_while_they_start(tmp_path, waits):
    """Those that start in time end in good order, and the others are killed."""
    with socket.socket(socket.AF_UNIX) as gate, contextlib.ExitStack() as ends:
        gate.bind(str(tmp_path / "gate"))
        gate.listen()
        gate.settimeout(LIMIT)
        options = {"folder": str(tmp_path), "start": "late", "shutdown_timeout": LIMIT if waits else 0}
        with Program(tmp_path, balance="round-robin", **options) as program:
            for _ in range(2):
                line = program.line()
                program.has(line["pid"])
                ends.enter_context(gate.accept()[0])
            client = Client(line["addresses"][0])
            program.process.terminate()
            assert client.rest() == 0
            client.close()
            if waits:
                ends.close()
            program.is_over()
            assert program.log().count("did not end in time") == (0 if waits else 2)


def test_a_second_sigterm_changes_nothing(tmp_path):
    with Program(tmp_path, balance="round-robin") as program:
        program.ready()
        first, second = program.clients_of_all()
        first.sock.sendall(b"big")
        begun = len(first.sock.recv(1))
        program.process.terminate()
        assert second.rest() == 0
        program.process.terminate()
        assert begun + first.rest() == programs.SIZE
        program.is_over()
        assert program.log() == ""


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


class Stuck:
    """In place of a worker: one that serves, and does not end."""

    def __init__(self, index, sockets, place):
        self.place = place
        asyncio.get_running_loop().call_soon(place.ready)

    def drain(self):
        pass

    def kill(self):
        self.place.ended("killed", None)


async def test_an_interrupt_in_the_iteration_of_the_shutdown():
    """It is not the first one, which has all sent."""
    up = asyncio.Event()
    log = Up(up.set)
    workers = Workers(1, "random", 10 * LIMIT)

    async def main():
        try:
            await workers.run(Stuck, 1)
        finally:
            await workers.end()
            workers.kill()

    task = asyncio.create_task(main())
    await asyncio.wait_for(up.wait(), LIMIT)
    log.close()
    workers.shutdown()
    task.cancel()
    assert await asyncio.wait([task], timeout=LIMIT) == ({task}, set())
    assert task.cancelled()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_interrupt_after_it_waits_for_nobody(tmp_path, number):
    with Program(tmp_path, shutdown_timeout=1000) as program:
        program.ready()
        first, second = program.clients_of_all()
        second.sock.sendall(b"hang")
        assert program.line() == {"hangs": 1}
        program.process.send_signal(number)
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
