"""A bad cable: what comes in at one network interface goes out at another, late, out of order, or not at all.

For kernels without `tc netem`. A packet socket at each end (packet(7)), so frames pass as they are.
"""

from __future__ import annotations

import array
import dataclasses
import fcntl
import heapq
import random
import select
import socket
import struct
import threading
import time

_EVERY_PROTOCOL = 0x0003  # ETH_P_ALL
_SIOCETHTOOL = 0x8946
_SET_CHECKSUMS = 0x17  # ETHTOOL_STXCSUM
_BUFFER = 8 << 20
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Fate:
    """What happens to frames: times in seconds, chances from 0 to 1."""

    delay: float
    jitter: float
    loss: float
    reordering: float


@dataclasses.dataclass
class Counts:
    """What has happened to them."""

    carried: int = 0
    lost: int = 0
    reordered: int = 0


def compute_checksums(interface: str) -> None:
    """Have the kernel finish each packet: what no hardware will see has no checksum otherwise, and comes in lumps."""
    value = array.array("I", [_SET_CHECKSUMS, 0])
    request = struct.pack("16sP16x", interface.encode(), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)


class Cable(threading.Thread):
    """Carries frames between two interfaces of this network namespace, in both directions, until `cut()`."""

    def __init__(self, ends: tuple[str, str], fate: Fate, seed: int) -> None:
        super().__init__(name="cable", daemon=True)
        self.counts = Counts()
        self._fate = fate
        self._random = random.Random(seed)
        self._cut = threading.Event()
        self._sockets = [_packet_socket(end) for end in ends]
        self._other = dict(zip(self._sockets, reversed(self._sockets), strict=True))
        self._last = dict.fromkeys(self._sockets, 0.0)
        self._waiting: list[tuple[float, int, socket.socket, bytes]] = []  # a heap: due, number, where to, frame

    def run(self) -> None:
        number = 0
        while not self._cut.is_set():
            timeout = min(max(self._waiting[0][0] - time.monotonic(), 0), 0.1) if self._waiting else 0.1
            for end in select.select(self._sockets, (), (), timeout)[0]:
                for frame in _received(end):
                    number += 1
                    self._decide(number, frame, self._other[end])
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                *_, target, frame = heapq.heappop(self._waiting)
                self._send(target, frame)
        for end in self._sockets:
            end.close()

    def cut(self) -> Counts:
        """Stop, and say what has been."""
        self._cut.set()
        self.join()
        return self.counts

    def _decide(self, number: int, frame: bytes, target: socket.socket) -> None:
        if self._random.random() < self._fate.loss:
            self.counts.lost += 1
            return
        due = 0.0  # ahead of those that wait
        if self._random.random() < self._fate.reordering:
            self.counts.reordered += 1
        else:
            delay = self._fate.delay + self._random.uniform(0, self._fate.jitter)
            self._last[target] = due = max(time.monotonic() + delay, self._last[target])
        heapq.heappush(self._waiting, (due, number, target, frame))

    def _send(self, target: socket.socket, frame: bytes) -> None:
        try:
            target.send(frame)
            self.counts.carried += 1
        except OSError:  # no room, or the other end is gone
            self.counts.lost += 1


def _packet_socket(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
    sock.bind((interface, _EVERY_PROTOCOL))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    sock.setblocking(False)
    return sock


def _received(sock: socket.socket) -> list[bytes]:
    frames = []
    for _ in range(_BATCH):
        try:
            frame, address = sock.recvfrom(65536)
        except BlockingIOError:
            break
        if address[2] != socket.PACKET_OUTGOING:  # what this kernel itself sends there
            frames.append(frame)
    return frames
