"""Datagrams in the one pair that is written twice: both halves give the same answers."""

import errno
import socket

import pytest

FAMILIES = {
    "IPv4": (socket.AF_INET, ("127.0.0.1", 0)),
    "IPv6": (socket.AF_INET6, ("::1", 0)),
    "Unix": (socket.AF_UNIX, b""),  # the kernel chooses a name
}


@pytest.fixture(params=FAMILIES)
def two(request):
    """Two bound datagram sockets of a family; ours, the first, is non-blocking."""
    family, address = FAMILIES[request.param]
    with socket.socket(family, socket.SOCK_DGRAM) as ours, socket.socket(family, socket.SOCK_DGRAM) as peer:
        for sock in (ours, peer):
            sock.bind(address)
            sock.setblocking(False)
        yield ours, peer


def receive(half, sock):
    return half.recv_datagrams(sock, sock.fileno(), sock.family)


def send(half, sock, *pairs):
    """Send (data, address) pairs; one of the kind that `destination()` does not know goes as it is."""
    destinations = [half.destination(sock.family, address) or address for _, address in pairs]
    return half.send_datagrams(sock, sock.fileno(), [data for data, _ in pairs], destinations)


def test_recv_datagrams(half, two):
    ours, peer = two
    assert receive(half, ours) == []
    sent = [b"one", b"", bytes(range(256)) * 10, b""]
    for data in sent:
        peer.sendto(data, ours.getsockname())
    for _ in range(2):  # the second time the address is known
        assert receive(half, ours) == [(data, peer.getsockname()) for data in sent]
        for data in sent:
            peer.sendto(data, ours.getsockname())


def test_recv_datagrams_is_bounded(half):
    family, address = FAMILIES["IPv4"]
    with socket.socket(family, socket.SOCK_DGRAM) as ours, socket.socket(family, socket.SOCK_DGRAM) as peer:
        ours.bind(address)
        ours.setblocking(False)
        for i in range(2 * half.DATAGRAMS + 1):
            peer.sendto(b"%d" % i, ours.getsockname())
        batches = [receive(half, ours) for _ in range(4)]
        assert [len(batch) for batch in batches] == [half.DATAGRAMS, half.DATAGRAMS, 1, 0]
        assert [data for batch in batches for data, _ in batch] == [b"%d" % i for i in range(2 * half.DATAGRAMS + 1)]


def test_recv_datagrams_cuts_what_is_too_long(half):
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, peer:
        ours.setblocking(False)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
        peer.send(b"x" * (half.DATAGRAM_SIZE + 1000))
        assert receive(half, ours) == [(b"x" * half.DATAGRAM_SIZE, None)]


def test_recv_datagrams_reports_an_error_and_goes_on(half):
    with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as peer:
        for sock in (ours, peer):
            sock.bind(("127.0.0.1", 0))
        name = peer.getsockname()
        ours.connect(name)
        ours.setblocking(False)
        peer.sendto(b"first", ours.getsockname())
        peer.close()
        ours.send(b"to nobody any more")
        error, datagram = receive(half, ours)
        assert type(error) is ConnectionRefusedError
        assert error.errno == errno.ECONNREFUSED
        assert datagram == (b"first", name)


def test_many_senders(half, two):
    """More than are remembered, and each is who it is."""
    ours, _ = two
    address = {socket.AF_UNIX: b"", socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}[ours.family]
    for _ in range(150):
        senders = []
        for _ in range(10):
            with socket.socket(ours.family, socket.SOCK_DGRAM) as sender:
                sender.bind(address)
                sender.sendto(b"x", ours.getsockname())
                senders.append(sender.getsockname())
        assert [address for _, address in receive(half, ours)] == senders


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_INET, ("255.255.255.255", 65535)),
        (socket.AF_INET6, ("::1", 9)),
        (socket.AF_INET6, ("::ffff:127.0.0.1", 9, 0)),
        (socket.AF_INET6, ("fe80::1", 9, 0xFFFFF, 0xFFFFFFFF)),
        (socket.AF_UNIX, "/a/path"),
        (socket.AF_UNIX, b"/a/path"),
        (socket.AF_UNIX, "/not/ascii/\udcff\u20ac"),
        (socket.AF_UNIX, "x" * 107),
        (socket.AF_UNIX, b"\0an\0abstract name"),
        (socket.AF_UNIX, "\0another"),
    ],
)
def test_destinations(half, family, address):
    assert half.destination(family, address) is not None
    assert half.destination(family, address) is half.destination(family, address)


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, None),
        (socket.AF_INET, ()),
        (socket.AF_INET, ("127.0.0.1",)),
        (socket.AF_INET, ("127.0.0.1", 9, 0)),
        (socket.AF_INET, ["127.0.0.1", 9]),
        (socket.AF_INET, ("127.0.0.1", [])),
        (socket.AF_INET, ("127.0.0.1", 65536)),
        (socket.AF_INET, ("127.0.0.1", -1)),
        (socket.AF_INET, ("127.0.0.1", 9.0)),
        (socket.AF_INET, ("127.0.0.1", None)),
        (socket.AF_INET, ("127.0.0.1\0", 9)),
        (socket.AF_INET, ("127.0.0.1 ", 9)),
        (socket.AF_INET, ("127.1", 9)),
        (socket.AF_INET, ("localhost", 9)),
        (socket.AF_INET, ("", 9)),
        (socket.AF_INET, ("<broadcast>", 9)),
        (socket.AF_INET, ("\ud800", 9)),
        (socket.AF_INET, ("::1", 9)),
        (socket.AF_INET6, ("127.0.0.1", 9)),
        (socket.AF_INET6, ("fe80::1%lo", 9)),
        (socket.AF_INET6, ("::1", 9, 1 << 20)),
        (socket.AF_INET6, ("::1", 9, -1)),
        (socket.AF_INET6, ("::1", 9, 0, 1 << 32)),
        (socket.AF_INET6, ("::1", 9, 0, 0, 0)),
        (socket.AF_UNIX, ""),
        (socket.AF_UNIX, b""),
        (socket.AF_UNIX, "x" * 108),
        (socket.AF_UNIX, ("127.0.0.1", 9)),
        (socket.AF_UNIX, 9),
        (socket.AF_NETLINK, (0, 0)),
    ],
)
def test_no_destinations(half, family, address):
    """Wrong, or not sure: that is for the socket object to say."""
    for _ in range(2):
        assert half.destination(family, address) is None


def test_a_destination_is_of_one_family(half):
    address = ("127.0.0.1", 9)
    assert half.destination(socket.AF_INET, address) is not None
    assert half.destination(socket.AF_INET6, address) is None
    assert half.destination(socket.AF_UNIX, address) is None
    assert half.destination(socket.AF_INET, address) is not None


def test_send_datagrams(half, two):
    ours, peer = two
    pairs = [(b"one", peer.getsockname()), (b"", peer.getsockname()), (bytes(5000), peer.getsockname())]
    assert send(half, ours, *pairs) == 3
    assert [peer.recv(10_000) for _ in range(3)] == [data for data, _ in pairs]


def test_an_answer_goes_to_the_sender(half, two):
    ours, peer = two
    for data in (b"one", b"two"):
        peer.sendto(data, ours.getsockname())
        ((data, address),) = receive(half, ours)
        assert send(half, ours, (data, address)) == 1
        assert peer.recv(100) == data


def test_send_datagrams_of_a_connected_socket(half, two):
    ours, peer = two
    ours.connect(peer.getsockname())
    assert half.send_datagrams(ours, ours.fileno(), [b"one", b"two"], [half.CONNECTED] * 2) == 2
    assert [peer.recv(100), peer.recv(100)] == [b"one", b"two"]


def test_send_datagrams_where_only_the_socket_knows_the_address(half):
    """Alone or behind others, before others too: all are sent, in order, in as many calls as it takes."""
    with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        port = peer.getsockname()[1]
        pairs = [(b"%d" % i, (host, port)) for i, host in enumerate(["localhost", "127.0.0.1", "localhost"])]
        while pairs:
            sent = send(half, ours, *pairs)
            assert sent > 0
            del pairs[:sent]
        assert [peer.recv(100) for _ in range(3)] == [b"0", b"1", b"2"]


def test_send_datagrams_to_a_full_queue(half):
    family, address = FAMILIES["Unix"]
    with socket.socket(family, socket.SOCK_DGRAM) as ours, socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.bind(address)
        ours.setblocking(False)
        pairs = [(b"%d" % i, peer.getsockname()) for i in range(2000)]
        sent = 0
        while count := send(half, ours, *pairs[sent:]):
            sent += count
        assert 0 < sent < 2000
        assert [peer.recv(100) for _ in range(sent)] == [b"%d" % i for i in range(sent)]
        assert send(half, ours, *pairs[sent:]) > 0


def test_send_datagrams_stops_at_the_first_that_fails(half, two):
    ours, peer = two
    pairs = [(data, peer.getsockname()) for data in (b"one", b"two", bytes(300_000), b"three")]
    assert send(half, ours, *pairs) == 2
    with pytest.raises(OSError, match="Message too long") as caught:
        send(half, ours, *pairs[2:])
    assert caught.value.errno == errno.EMSGSIZE
    assert send(half, ours, *pairs[3:]) == 1
    assert [peer.recv(100) for _ in range(3)] == [b"one", b"two", b"three"]


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 65536), ("127.0.0.1",), ("nobody.invalid", 9)])
def test_send_datagrams_raises_what_the_socket_raises(half, address):
    with socket.socket(type=socket.SOCK_DGRAM) as ours:
        with pytest.raises((TypeError, ValueError, OverflowError, socket.gaierror)) as expected:
            ours.sendto(b"x", address)
        with pytest.raises(expected.type) as caught:
            send(half, ours, (b"x", address))
        assert str(caught.value) == str(expected.value)


def test_datagrams_of_another_family(half):
    """Netlink, between two programs: the address is a pair of numbers."""
    NETLINK_USERSOCK = 2  # noqa: N806
    kind = (socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_USERSOCK)
    with socket.socket(*kind) as ours, socket.socket(*kind) as peer:
        for sock in (ours, peer):
            sock.bind((0, 0))
            sock.setblocking(False)
        assert receive(half, ours) == []
        assert send(half, peer, (b"one", ours.getsockname())) == 1
        assert send(half, peer, (b"two", ours.getsockname())) == 1
        assert receive(half, ours) == [(b"one", peer.getsockname()), (b"two", peer.getsockname())]
