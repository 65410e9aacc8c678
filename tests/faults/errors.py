"""What each call may answer: the errors of its man page that a sound program can meet, and a part of the work.

Not those that tell of a mistake in the call itself, such as EFAULT, nor those that Linux does not have: EINTR of
close(2), ENOMEM of poll(2) for a single descriptor.
"""

import errno

PART = -1
"""One byte of many is received or sent, one datagram of many."""

_NETWORK = ("ENETDOWN", "EPROTO", "EHOSTUNREACH", "ENETUNREACH")
_RECEIVING = ("EAGAIN", "EINTR", "ECONNRESET", "ECONNREFUSED", "ETIMEDOUT", "ENOMEM", "ENOTCONN", "EBADF", "EIO")
_SENDING = ("EAGAIN", "EINTR", "ECONNRESET", "EPIPE", "ENOBUFS", "ENOMEM", "ETIMEDOUT", "EBADF", "EIO", *_NETWORK)
_DESCRIPTORS = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")

_SENDFILE = ("EAGAIN", "EINTR", "EIO", "ENOMEM", "EINVAL", "EOVERFLOW", "ESPIPE", "ECONNRESET", "EPIPE")

_NAMES: dict[str, tuple[str, ...]] = {
    "accept4": ("EAGAIN", "EINTR", "ECONNABORTED", "EPERM", *_DESCRIPTORS, *_NETWORK),
    "bind": ("EACCES", "EADDRINUSE", "EADDRNOTAVAIL"),
    "close": ("EIO", "ENOSPC"),
    "connect": ("EINTR", "ECONNREFUSED", "ETIMEDOUT", "EADDRNOTAVAIL", "EACCES", *_NETWORK),
    "epoll_create1": ("EMFILE", "ENFILE", "ENOMEM"),
    "epoll_ctl": ("ENOMEM", "ENOSPC", "EPERM"),
    "epoll_pwait2": ("EINTR", "ENOSYS"),
    "epoll_wait": ("EINTR",),
    "eventfd": ("EMFILE", "ENFILE", "ENODEV", "ENOMEM"),
    "eventfd_write": ("EAGAIN",),
    "getpeername": ("ENOTCONN", "ENOBUFS"),
    "getsockname": ("ENOBUFS",),
    "listen": ("EADDRINUSE",),
    "pidfd_open": ("EMFILE", "ENFILE", "ENODEV", "ENOMEM", "ENOSYS", "EPERM"),
    "pipe2": ("EMFILE", "ENFILE"),
    "poll": ("EINTR",),
    "read": ("EAGAIN", "EINTR", "EIO"),
    "recv": _RECEIVING,
    "recvfrom": _RECEIVING,
    "recvmmsg": _RECEIVING,
    "send": _SENDING,
    "sendfile": _SENDFILE,
    "sendfile64": _SENDFILE,  # the same, under the name that CPython calls it by
    "sendmmsg": (*_SENDING, "EMSGSIZE"),
    "sendmsg": _SENDING,
    "sendto": (*_SENDING, "EMSGSIZE"),
    "setsockopt": ("ENOBUFS", "ENOMEM"),
    "shutdown": ("ENOTCONN", "ENOBUFS"),
    "socket": ("EACCES", "EAFNOSUPPORT", *_DESCRIPTORS),
    "socketpair": _DESCRIPTORS,
    "waitid": ("EINTR",),
    "write": ("EAGAIN", "EINTR", "EIO", "EPIPE", "ENOSPC"),
    "writev": ("EAGAIN", "EINTR", "EIO", "EPIPE", "ENOSPC"),
}
_PARTS = ("read", "recv", "recvmmsg", "send", "sendfile", "sendfile64", "sendmmsg", "sendmsg", "write", "writev")

ANSWERS = {
    call: [getattr(errno, name) for name in dict.fromkeys(names)] + [PART] * (call in _PARTS)
    for call, names in _NAMES.items()
}
"""The answers of each call, by its name: errnos, and `PART`."""

TRANSIENT = {PART, errno.EAGAIN, errno.EINTR}
"""After these a program goes on as if nothing had been."""


def name_of(answer: int) -> str:
    """The name of an answer."""
    return "a part" if answer == PART else errno.errorcode[answer]
