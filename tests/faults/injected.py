"""A module in the place of `core/syscalls`, whose calls fail on demand: for the pure build, on whatever system.

`inject()` puts it there, before anything of the package is imported: nothing is patched, everybody gets this one.
`arm()` and `disarm()` are those of faults.c.
"""

import errno
import functools
import importlib.util
import os
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

import errors

NAME = "epoll_loop.core.syscalls"

# What fails like which call of the C library: by an answer of -errno, or by an exception.
ANSWERING = {
    "accept": "accept4",
    "read": "read",
    "recv": "recv",
    "recv_into": "recv",
    "send": "send",
    "sendmsg": "sendmsg",
    "write": "write",
    "writev": "writev",
}
RAISING = {
    "close": "close",
    "recv_datagrams": "recvmmsg",
    "send_datagrams": "sendmmsg",
    "try_recv": "recv",
    "try_recv_into": "recv",
    "try_send": "send",
}
SET = {"EpollSet": "epoll_create1", "EpollSet.add": "epoll_ctl", "EpollSet.modify": "epoll_ctl"}

# An interrupted call is made again in either half, here by CPython (PEP 475): nobody above hears of it.
ANSWERS = {
    name: [answer for answer in errors.ANSWERS[like] if answer != errno.EINTR]
    for name, like in {**ANSWERING, **RAISING, **SET}.items()
}

_wanted = ""  # the name of the call that will fail; empty when none will
_left = 0  # how many of its calls do as they should until then
_answer = 0
_seen = 0
_sets: "weakref.WeakSet[Any]" = weakref.WeakSet()


def arm(name: str, number: int, answer: int) -> None:
    """From now on the number-th call of that name has `answer`: an errno, or `errors.PART`."""
    global _wanted, _left, _answer, _seen
    _wanted, _left, _answer, _seen = name, number, answer, 0


def disarm() -> int:
    """No fault from now on. Returns the number of calls there were, if not enough for the fault, or -1."""
    global _wanted
    count = _seen if _wanted else -1
    _wanted = ""
    return count


def _due(name: str) -> int:
    global _wanted, _left, _seen
    if name != _wanted:
        return 0
    _seen += 1
    _left -= 1
    if _left:
        return 0
    _wanted = ""
    return _answer


def _tell_again(fd: int) -> None:
    """Have a new edge: of what a false EAGAIN or a part leaves, the kernel tells again."""
    for each in _sets:
        if fd in each.masks:
            each.again(fd)


def _fails(name: str, real: Callable[..., Any], part: Callable[..., Any] | None) -> Callable[..., Any]:
    """A call that fails when it is due, by its answer or by an exception."""

    @functools.wraps(real)
    def call(*args: Any) -> Any:
        due = _due(name)
        if not due:
            return real(*args)
        if name == "close":
            real(*args)  # close(2) has closed, whatever it says
        if due in errors.TRANSIENT:
            _tell_again(args[0] if type(args[0]) is int else args[0].fileno())
        if due == errors.PART:
            assert part is not None
            return part(*args)
        if name in ANSWERING:
            return -due
        if due == errno.EAGAIN:  # none of these says it
            return {"recv_datagrams": [], "send_datagrams": 0}.get(name)
        raise OSError(due, os.strerror(due))

    return call


def _parts(real: Any) -> dict[str, Callable[..., Any]]:
    """How each call does a part of its work: one byte, one datagram."""

    def one_byte_of(call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: call(*args[:-2], bytes(args[-2][: args[-1] + 1]), args[-1])

    return {
        "read": lambda fd: os.read(fd, 1),
        "recv": lambda sock, fd: sock.recv(1),
        "recv_into": lambda sock, fd, buffer: real.recv_into(sock, fd, memoryview(buffer)[:1]),
        "recv_datagrams": lambda sock, fd, family: [sock.recvfrom(real.DATAGRAM_SIZE)],
        "send": one_byte_of(real.send),
        "sendmsg": lambda sock, fd, first, offset, rest: real.send(sock, fd, first[: offset + 1], offset),
        "send_datagrams": lambda sock, fd, data, to: real.send_datagrams(sock, fd, data[:1], to[:1]),
        "try_recv": lambda sock, size: real.try_recv(sock, 1),
        "try_recv_into": lambda sock, buffer: real.try_recv_into(sock, memoryview(buffer)[:1]),
        "try_send": lambda sock, data: real.try_send(sock, memoryview(data)[:1]),
        "write": one_byte_of(real.write),
        "writev": lambda fd, first, offset, rest: real.write(fd, first[: offset + 1], offset),
    }


def _set_of(real: Any) -> type:
    class EpollSet(real.EpollSet):  # type: ignore[misc]
        def __init__(self) -> None:
            _raise("EpollSet")
            super().__init__()
            self.masks: dict[int, int] = {}
            _sets.add(self)

        def add(self, fd: int, mask: int) -> None:
            _raise("EpollSet.add")
            super().add(fd, mask)
            self.masks[fd] = mask

        def modify(self, fd: int, mask: int) -> None:
            _raise("EpollSet.modify")
            super().modify(fd, mask)
            self.masks[fd] = mask

        def remove(self, fd: int) -> None:
            self.masks.pop(fd, None)
            super().remove(fd)

        def again(self, fd: int) -> None:
            super().modify(fd, self.masks[fd])

    return EpollSet


def _raise(name: str) -> None:
    due = _due(name)
    if due:
        raise OSError(due, os.strerror(due))


def inject() -> None:
    """Put the module in its place. RuntimeError if the package is imported already."""
    if NAME in sys.modules:
        raise RuntimeError("too late: somebody has the real one")
    package = importlib.util.find_spec("epoll_loop")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = os.path.join(package.submodule_search_locations[0], "core", "syscalls.py")
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    real = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(real)
    wrapper = types.ModuleType(NAME)
    vars(wrapper).update(vars(real))
    parts = _parts(real)
    for name in (*ANSWERING, *RAISING):
        setattr(wrapper, name, _fails(name, getattr(real, name), parts.get(name)))
    wrapper.EpollSet = _set_of(real)  # type: ignore[attr-defined]
    sys.modules[NAME] = wrapper
