"""Which worker a connection is handed to, and when none is accepted."""

import asyncio
import errno
import socket

import pytest
from recording import LIMIT

from epoll_loop.serving import balance
from epoll_loop.serving.balance import LEAST_CONNECTIONS, ROUND_ROBIN, Accepting

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


class Place:
    """In the place of a worker's."""

    def __init__(self, index, connections=0):
        self.index = index
        self.connections = connections
        self.open = True
        self.handed = []
        self.changed = asyncio.Event()

    def takes(self):
        return self.open

    def hand(self, index, sock):
        self.connections += 1
        self.handed.append(index)
        sock.close()
        self.changed.set()

    async def until(self, count):
        async with asyncio.timeout(LIMIT):
            while self.connections < count:
                self.changed.clear()
                await self.changed.wait()


class Exhausted(socket.socket):
    """A listening socket that can not accept so many times."""

    times = 0

    def accept(self):
        if self.times:
            self.times -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def turns(accepting, count):
    """Whose turn it is, so many times."""
    found = []
    for _ in range(count):
        place = accepting.choose()
        accepting._last = place.index
        place.connections += 1
        found.append(place.index)
    return found


async def test_in_turn():
    places = [Place(index) for index in range(3)]
    accepting = Accepting(asyncio.get_running_loop(), places, ROUND_ROBIN)
    assert turns(accepting, 4) == [0, 1, 2, 0]
    places[1].open = False
    assert turns(accepting, 3) == [2, 0, 2]
    places[1].open = True
    assert turns(accepting, 3) == [0, 1, 2]


async def test_the_fewest_and_of_as_many_in_turn():
    places = [Place(0, 5), Place(1, 2), Place(2, 2), Place(3, 4)]
    accepting = Accepting(asyncio.get_running_loop(), places, LEAST_CONNECTIONS)
    assert turns(accepting, 6) == [1, 2, 1, 2, 3, 1]
    places[2].open = False
    assert turns(accepting, 4) == [3, 0, 1, 3]


@pytest.mark.parametrize("kind", [ROUND_ROBIN, LEAST_CONNECTIONS])
async def test_nobody_takes_them(kind):
    """They wait in the backlog, and the loop sleeps, until somebody does."""
    loop = asyncio.get_running_loop()
    place = Place(0)
    accepting = Accepting(loop, [place], kind)
    place.open = False
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting.start([(7, listening)], 10)
        accepting.resume()
        with socket.create_connection(listening.getsockname()) as client:
            client.settimeout(LIMIT)
            assert accepting.choose() is None
            while not accepting._paused:
                await asyncio.sleep(0)
            assert not loop.remove_reader(listening)
            place.open = True
            accepting.resume()
            await place.until(1)
            assert client.recv(1) == b""
        accepting.stop()
        accepting.resume()
        assert not loop.remove_reader(listening)


async def test_what_is_taken_back():
    """It comes to those whose turn it is, else it waits for somebody, and until the end at the latest."""
    places = [Place(0, 3), Place(1, 2), Place(2, 9)]
    accepting = Accepting(asyncio.get_running_loop(), places, LEAST_CONNECTIONS)

    def take_back(*indices):
        pairs = {index: socket.socketpair() for index in indices}
        accepting.take_back([(index, sock) for index, (sock, _) in pairs.items()])
        for _, other in pairs.values():
            other.setblocking(False)
        return [other for _, other in pairs.values()]

    others = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting.start([(0, listening)], 10)
        accepting.resume()
        others += take_back(5, 6, 7)
        assert [place.handed for place in places] == [[6], [5, 7], []]
        for place in places:
            place.open = False
        others += take_back(8, 9)
        accepting.resume()
        assert [place.handed for place in places] == [[6], [5, 7], []]
        places[2].open = True
        accepting.resume()
        assert places[2].handed == [8, 9]
        places[2].open = False
        others += take_back(10)
        accepting.stop()
        assert others[-1].recv(1) == b""
        places[2].open = True
        others += take_back(11)
        accepting.resume()
        assert places[2].handed == [8, 9]
    for other in others:
        with other:
            assert other.recv(1) == b""


async def test_out_of_descriptors(monkeypatch):
    """It is told of once, and tried again by and by; after a success it is told of again."""
    monkeypatch.setattr(balance, "_RETRY", 0)
    loop = asyncio.get_running_loop()
    told = []
    loop.set_exception_handler(lambda loop, context: told.append(context["exception"].errno))
    place = Place(0)
    accepting = Accepting(loop, [place], ROUND_ROBIN)
    with Exhausted() as listening:
        listening.bind(("127.0.0.1", 0))
        accepting.start([(0, listening)], 10)
        accepting.resume()
        for number in (1, 2):
            listening.times = 3
            with socket.create_connection(listening.getsockname()):
                await place.until(number)
            assert told == [errno.EMFILE] * number
        accepting.stop()
