"""The benchmark's own arithmetic, and its C programs one against the other."""

import asyncio
import io
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks import tls
from benchmarks.__main__ import feasible, limited
from benchmarks.figures import Spread, figure
from benchmarks.load import LIBRARIES, fetch, missing_header, parse_wrk, run_datagrams, run_load
from benchmarks.loops import ALL_LOOPS, check_transport, why_not
from benchmarks.processes import MeasurementError, Process, siblings
from benchmarks.rows import BARE_C, ROWS, resident, start
from benchmarks.runner import run_row
from benchmarks.servers import ANSWERS, NOT_FOUND

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


def why_not_here(loop: str) -> str:
    if loop != BARE_C:
        return why_not(loop)
    return missing_header("https") if shutil.which("cc") else "no C compiler"


needs_openssl = pytest.mark.skipif(bool(why_not_here(BARE_C)), reason=why_not_here(BARE_C))

ROUNDS = [
    {"uvloop": {"rate": 100.0}, "epoll_loop": {"rate": 150.0}},
    {"uvloop": {"rate": 50.0}, "epoll_loop": {"rate": 90.0}},
    {"uvloop": {"rate": 200.0}, "epoll_loop": {"rate": 340.0}},
]

WRK = """\
Running 1m test @ http://127.0.0.1:8080/plain
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.18ms    1.79ms  11.44ms   76.61%
    Req/Sec    10.39k     1.59k   12.31k    50.00%
  Latency Distribution
     50%  271.00us
     75%    3.28ms
     90%    6.17ms
     99%    1.02s
  8272 requests in 801.58ms, 1.31MB read
Requests/sec:  10319.61
Transfer/sec:      1.63MB
"""


def test_figure_is_the_median_with_the_extremes() -> None:
    assert figure(ROUNDS, "uvloop", "rate") == Spread(100, 50, 200)


def test_ratio_is_taken_within_each_round() -> None:
    # The ratio of the medians would be 1.5.
    assert figure(ROUNDS, "epoll_loop", "rate", "uvloop") == Spread(1.7, 1.5, 1.8)


def test_what_a_round_does_not_have_is_left_out() -> None:
    assert (
        figure([*ROUNDS[:1], {"uvloop": {"rate": 1.0}, "epoll_loop": {}}], "epoll_loop", "rate") == (150,) * 3
    )
    assert figure([{"epoll_loop": {"rate": 1.0}}], "epoll_loop", "rate", "uvloop") is None
    assert figure(ROUNDS, "epoll_loop", "p50_us") is None


def test_parse_wrk() -> None:
    assert parse_wrk(WRK) == {
        "requests": 8272,
        "seconds": pytest.approx(0.80158),
        "p50_us": 271.0,
        "p99_us": pytest.approx(1.02e6),
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("  Non-2xx or 3xx responses: 7\n", "responses: 7"),
        ("  Socket errors: connect 0, read 3, write 0, timeout 0\n", "read 3"),
    ],
)
def test_parse_wrk_refuses_a_run_with_errors(line: str, said: str) -> None:
    with pytest.raises(MeasurementError, match=said):
        parse_wrk(WRK + line)


def test_parse_wrk_refuses_what_is_no_result() -> None:
    with pytest.raises(MeasurementError):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")
    with pytest.raises(MeasurementError):
        parse_wrk(WRK.replace("8272 requests", "0 requests"))


def test_a_core_is_its_own_sibling() -> None:
    assert 0 in siblings(0)


@needs_cc
@pytest.mark.parametrize("row", ["echo", "udp"])
def test_load_and_echo_one_against_the_other(row: str) -> None:
    (cells,) = run_row(ROWS[row], [BARE_C], rounds=1, seconds=0.1)
    sample = cells[BARE_C]
    assert sample["requests"] > 0
    assert sample["rate"] == sample["requests"] / sample["seconds"]
    assert 0 < sample["p50_us"] <= sample["p99_us"]
    assert sample["cpu_us"] == pytest.approx(sample["user_us"] + sample["system_us"])
    assert 0 < sample["cpu_us"] * sample["requests"] / 1e6 < 2


@pytest.fixture
def echo_port(request: pytest.FixtureRequest) -> Iterator[int]:
    process = start(ROWS[getattr(request, "param", "echo")], BARE_C, None)
    yield int(process.readline())
    process.stop()


@needs_cc
def test_load_does_exactly_the_requests_asked_for(echo_port: int) -> None:
    for connections, size in ((1, 1), (4, 1024), (20, 300_000)):
        assert run_load(echo_port, connections, "--requests", 11, "--echo", size)["requests"] == 11
        options = "--requests", 101, "--echo", size, "--pipeline", 16
        assert run_load(echo_port, connections, *options)["requests"] == 101


@needs_cc
@pytest.mark.parametrize("echo_port", ["udp"], indirect=True)
def test_datagrams_sends_exactly_as_many_as_asked_for(echo_port: int) -> None:
    for sockets, window, size in ((1, 1, 8), (1, 16, 64), (1, 100, 64), (3, 20, 1400)):
        sample = run_datagrams(echo_port, sockets, window, "--requests", 151, "--bytes", size)
        assert (sample["requests"], sample["lost"]) == (151, 0)


Answers = Callable[[int, bytes], list[bytes]]  # to a datagram, of which the number is given too
UdpServer = Callable[[Answers], int]


@pytest.fixture
def udp_server() -> Iterator[UdpServer]:
    """Starts a server that answers as it is told, and returns its port."""

    def serve(answers: Answers) -> None:
        number = 0
        while (received := server.recvfrom(2048))[0]:
            for answer in answers(number, received[0]):
                server.sendto(answer, received[1])
            number += 1

    def begin(answers: Answers) -> int:
        thread = threading.Thread(target=serve, args=(answers,))
        thread.start()
        threads.append(thread)
        return server.getsockname()[1]

    threads: list[threading.Thread] = []
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        yield begin
        server.sendto(b"", server.getsockname())  # ends it
        for thread in threads:
            thread.join()


@needs_cc
def test_a_lost_datagram_is_counted_and_replaced(udp_server: UdpServer) -> None:
    port = udp_server(lambda number, data: [] if number in (0, 1, 5) else [data])
    # Two are under way: without others in their place the first two would be the last ones.
    sample = run_datagrams(port, 1, 2, "--seconds", 1, "--bytes", 64)
    assert sample["lost"] >= 3
    assert sample["requests"] > 0


@needs_cc
def test_an_answer_to_a_lost_datagram_counts_for_nothing(udp_server: UdpServer) -> None:
    came: list[bytes] = []

    def answers(number: int, data: bytes) -> list[bytes]:
        came.append(data)
        return came[-2:] if number else []  # the answer before once more, and that to the first one late

    sample = run_datagrams(udp_server(answers), 1, 1, "--seconds", 0.4, "--bytes", 64)
    assert sample["lost"] >= 1
    assert sample["requests"] + sample["lost"] == len(came)


@needs_cc
@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (lambda number, data: [data[::-1]], "differs"),
        (lambda number, data: [data[:-1] + b"x"], "differs"),
        (lambda number, data: [data[:4] + b"xxxx" + data[8:]], "differs"),
        (lambda number, data: [data[:-1]], "63 bytes, where 64"),
        (lambda number, data: [data + b"x"], "65 bytes, where 64"),
        (lambda number, data: [data, data], "two echoes"),
    ],
)
def test_datagrams_dies_of_a_wrong_answer(answers: Answers, said: str, udp_server: UdpServer) -> None:
    with pytest.raises(MeasurementError, match=said):
        run_datagrams(udp_server(answers), 1, 1, "--requests", 10, "--bytes", 64)


@needs_cc
@pytest.mark.parametrize(
    ("size", "good", "make_wrong"),
    [
        (3, 0, lambda data: data[::-1]),
        (3, 1, lambda data: bytes(byte - 3 for byte in data)),  # the echo before
        (20_000, 8, lambda data: data[:-1] + b"!"),  # of long ones not all are compared: the first and the ninth are
        (20_000, 3, lambda data: data + b"!"),
    ],
)
def test_load_dies_of_a_wrong_answer(size: int, good: int, make_wrong: Callable[[bytes], bytes]) -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            for _ in range(good):
                connection.sendall(connection.recv(size, socket.MSG_WAITALL))
            connection.sendall(make_wrong(connection.recv(size, socket.MSG_WAITALL)))
            connection.recv(1)  # until load is gone

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answer)
        server.start()
        with pytest.raises(MeasurementError, match="differs"):
            run_load(listener.getsockname()[1], 1, "--requests", 20, "--echo", size)
        server.join()


@needs_cc
def test_load_dies_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for mode in (("--echo", 1), ("--http", "/"), ("--connect-abort",)):
        with pytest.raises(MeasurementError, match="refused"):
            run_load(port, 1, "--requests", 1, *mode)
    with pytest.raises(MeasurementError, match="refused"):
        run_datagrams(port, 1, 16, "--requests", 1, "--bytes", 64)


@needs_cc
def test_load_dies_of_what_is_not_a_200(echo_port: int) -> None:
    with pytest.raises(MeasurementError, match="not a 200"):
        run_load(echo_port, 1, "--requests", 1, "--http", "/")


@needs_cc
@pytest.mark.parametrize("row", ["json", "accept", "streams", "sockets", "udp", "pairs", "spawns", "spawns8"])
def test_a_cell_of_asyncio(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.load.shutil.which", lambda name: None)  # no wrk: load.c speaks HTTP too
    said: list[str] = []
    (cells,) = run_row(ROWS[row], ["asyncio"], rounds=1, seconds=0.1, say=said.append)
    assert not said
    assert cells["asyncio"]["requests"] > 0


@needs_cc
def test_a_cell_that_fails_is_told_and_empty() -> None:
    calls: list[float] = []

    def cell(process: object, line: str, seconds: float) -> dict[str, float]:
        calls.append(seconds)
        if len(calls) == 3:  # the warm-up, the first round, and then
            raise MeasurementError("no more")
        return {"rate": 1.0}

    said: list[str] = []
    row = replace(ROWS["echo"], cell=cell)
    rounds = list(run_row(row, [BARE_C], rounds=3, seconds=0.1, say=said.append))
    assert rounds == [{BARE_C: {"rate": 1.0}}, {BARE_C: {}}, {BARE_C: {"rate": 1.0}}]
    assert len(calls) == 4
    assert len(said) == 1
    assert f"{BARE_C}: no more" in said[0]


@needs_cc
def test_a_process_that_cannot_do_the_row_is_told_once() -> None:
    said: list[str] = []
    row = replace(ROWS["echo"], subject=("servers", "nonsense"))
    rounds = list(run_row(row, ["asyncio", BARE_C], rounds=2, seconds=0.1, say=said.append))
    assert [one["asyncio"] for one in rounds] == [{}, {}]
    assert all(one[BARE_C]["requests"] for one in rounds)
    assert len(said) == 1
    assert "asyncio: ends with status 2: " in said[0]
    assert "invalid choice: 'nonsense'" in said[0]


@pytest.fixture
def tls_server(request: pytest.FixtureRequest) -> Iterator[tuple[Process, int]]:
    """The server of a row, on a loop."""
    row, loop = request.param
    if reason := why_not_here(loop):
        pytest.skip(f"no {loop}: {reason}")
    process = start(ROWS[row], loop, None)
    yield process, int(process.readline())
    process.stop()


def on(row: str, *loops: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("tls_server", [(row, loop) for loop in loops], indirect=True)


@on("https", *ALL_LOOPS, BARE_C)
def test_https_answers_what_the_path_says(tls_server: tuple[Process, int]) -> None:
    process, port = tls_server
    for path in ("/1k", "/100k"):
        fetch(port, 3, 7, path)
    with pytest.raises(MeasurementError, match="not a 200: 404"):
        fetch(port, 1, 1, "/")
    process.check()


@on("https", "asyncio", BARE_C)
def test_https_puts_a_request_together(tls_server: tuple[Process, int]) -> None:
    with tls.connect(tls_server[1]) as client, client.makefile("rb") as answers:
        for path, answer in (*ANSWERS.items(), (b"/1", NOT_FOUND)):
            client.sendall(b"GET %b HTTP/1.1\r\nHost: " % path)
            client.sendall(b"localhost\r\n\r\n")
            assert answers.read(len(answer)) == answer


@on("https", "asyncio")
def test_https_closes_where_it_is_told(tls_server: tuple[Process, int]) -> None:
    with tls.connect(tls_server[1]) as client, client.makefile("rb") as answers:
        client.sendall(b"GET /1k HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert answers.read().endswith(b"\r\nConnection: close\r\n\r\n" + b"x" * 1024)


@needs_openssl
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_limit_of_https_has_the_cipher_of_the_others(newest: ssl.TLSVersion) -> None:
    def cipher(loop: str) -> tuple[str, str, int] | None:
        process = start(ROWS["https"], loop, None)
        try:
            plain = socket.create_connection(("127.0.0.1", int(process.readline())))
            with context.wrap_socket(plain) as client:
                return client.cipher()
        finally:
            process.stop()

    context = tls.client_context()
    context.maximum_version = newest
    assert cipher(BARE_C) == cipher("asyncio") is not None


@on("https", BARE_C)
def test_the_limit_of_https_outlives_its_clients(tls_server: tuple[Process, int]) -> None:
    process, port = tls_server
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /1k HTTP/1.1\r\n\r\n")
        while client.recv(65536):  # an alert
            pass
    with tls.connect(port) as client:
        client.sendall(b"x" * 5000)
        with suppress(ConnectionResetError):
            assert not client.recv(1)
    for read in (0, 50 * len(ANSWERS[b"/100k"])):  # the first one leaves at once
        with tls.connect(port) as client, client.makefile("rb") as answers:
            for _ in range(50):  # a record for each, and more than the socket has room for
                client.sendall(b"GET /100k HTTP/1.1\r\n\r\n")
            assert answers.read(read) == ANSWERS[b"/100k"] * (read and 50)
    process.check()


def come_back(port: int, newest: ssl.TLSVersion) -> bool | None:
    """Whether a client that comes a second time is spared the full handshake."""
    context = tls.client_context()
    context.maximum_version = newest
    session = None
    for _ in range(2):
        plain = socket.create_connection(("127.0.0.1", port))
        with context.wrap_socket(plain, session=session) as client:
            client.sendall(b"GET /1k HTTP/1.1\r\nConnection: close\r\n\r\n")
            while client.recv(65536):
                pass
            session, reused = client.session, client.session_reused
    return reused


@on("https", "asyncio")
def test_a_client_may_come_back_with_its_session(tls_server: tuple[Process, int]) -> None:
    assert come_back(tls_server[1], ssl.TLSVersion.TLSv1_3)


@on("handshakes", "asyncio")
def test_every_handshake_is_a_full_one(tls_server: tuple[Process, int]) -> None:
    process, port = tls_server
    assert not come_back(port, ssl.TLSVersion.TLSv1_3)
    process.check()


@on("handshakes", "asyncio", "uvloop")
def test_a_session_that_is_reused_ends_the_server(tls_server: tuple[Process, int]) -> None:
    process, port = tls_server
    with suppress(OSError):
        come_back(port, ssl.TLSVersion.TLSv1_2)  # its sessions need no ticket
    with pytest.raises(MeasurementError, match="status 1"):
        process.readline()
    assert process.complaint() == "a TLS session was reused"


def test_transports_of_another_package_are_found_out() -> None:
    transport = asyncio.Transport()
    check_transport("asyncio", transport)
    with pytest.raises(TypeError, match=r"asyncio\+aiofastnet runs on asyncio.transports.Transport"):
        check_transport("asyncio+aiofastnet", transport)


@on("aiohttps", "asyncio")
def test_aiohttp_over_tls(tls_server: tuple[Process, int]) -> None:
    fetch(tls_server[1], 2, 5, "/plain")


@pytest.mark.skipif(not shutil.which("wrk"), reason="no wrk")
@pytest.mark.parametrize("loop", ["asyncio", pytest.param(BARE_C, marks=needs_openssl)])
def test_a_cell_of_wrk_over_tls(loop: str) -> None:
    (cells,) = run_row(ROWS["https"], [loop], rounds=1, seconds=1, say=lambda text: None)
    assert cells[loop]["requests"] > 0


def test_an_idle_connection_over_tls_has_its_price() -> None:
    row = replace(ROWS["idletls"], cell=resident(5, 50, tls.connect))
    (cells,) = run_row(row, ["asyncio"], rounds=1, seconds=1)
    assert cells["asyncio"]["bytes"] > 1000


def test_rows_without_their_program_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.__main__.shutil.which", lambda name: None)
    console = Console(file=io.StringIO(), width=200)
    assert list(feasible(["idletls", "https", "echo", "aiohttps"], console)) == ["echo", "idletls"]
    assert console.file.getvalue() == "https, aiohttps: left out, wrk is not on PATH\n"


@needs_cc
def test_rows_are_without_a_limit_that_a_header_is_missing_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIBRARIES, "https", ("no/such.h",))
    missing_header.cache_clear()
    console = Console(file=io.StringIO(), width=200)
    rows = limited({name: ROWS[name] for name in ("echo", "https", "https100k")}, console)
    missing_header.cache_clear()
    assert {name: bool(row.limit) for name, row in rows.items()} == {"echo": True, "https": False, "https100k": False}
    assert console.file.getvalue() == f"https, https100k: without {BARE_C}, no/such.h is missing\n"
