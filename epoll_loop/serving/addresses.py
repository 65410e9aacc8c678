"""Addresses to serve: "tcp://127.0.0.1:5000", "udp6://[::1]:5001?reuseport=true", "unix:///run/echo.sock"."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_INET = {"": socket.AF_UNSPEC, "4": socket.AF_INET, "6": socket.AF_INET6}
_SCHEMES = {f"{kind}{digit}": (kind, family) for kind in ("tcp", "udp") for digit, family in _INET.items()}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclasses.dataclass(frozen=True)
class Address:
    """What one address says. `tls` is for the connections that come there, in place of the server's."""

    kind: str
    """"tcp", "udp" or "unix"."""
    host: str | None = None
    """None: every interface."""
    port: int = 0
    path: str = ""
    family: int = socket.AF_UNSPEC
    reuse_port: bool = False
    tls: Any = None
    """An SSLContext, or a function that returns one, which each loop calls."""

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix://{self.path}"
        host = self.host or ""
        return f"{self.kind}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def where(self) -> dict[str, Any]:
        """Return what `loop.create_server()` is told of it; or create_unix_server(), or create_datagram_endpoint()."""
        if self.kind == "unix":
            return {"path": self.path}
        if self.kind == "udp":
            local = (self.host or None, self.port)
            return {"local_addr": local, "family": self.family, "reuse_port": self.reuse_port or None}
        return {"host": self.host, "port": self.port, "family": self.family, "reuse_port": self.reuse_port}


def parse(text: str | Address, tls: Any = None) -> Address:
    """Return the `Address` of a text. ValueError if it is none, with what is wrong."""
    if isinstance(text, Address):
        return dataclasses.replace(text, tls=tls) if text.tls is None and text.kind != "udp" else text
    if not isinstance(text, str):
        raise TypeError(f"an address is a str or an Address, not {type(text).__name__!r}")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    rest, _, query = rest.partition("?")
    reuse_port = _reuse_port(text, query)
    if scheme == "unix":
        if not rest:
            raise ValueError(f"{text!r} has no path")
        if reuse_port:
            raise ValueError(f"{text!r}: a Unix socket has no port to be reused")
        return Address("unix", path=rest, tls=tls)
    if scheme not in _SCHEMES:
        raise ValueError(f"{text!r} begins with none of {', '.join(_SCHEMES)} and unix")
    kind, family = _SCHEMES[scheme]
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError(f"{text!r}: {exc}") from None
    if port is None or parts.path or parts.username is not None:
        raise ValueError(f"{text!r} is not {scheme}://HOST:PORT")
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError(f"{text!r}: this platform has no SO_REUSEPORT")
    return Address(kind, host, port, family=family, reuse_port=reuse_port, tls=tls if kind == "tcp" else None)


def parse_all(texts: Iterable[str | Address], tls: Any = None) -> list[Address]:
    """Return the `Address` of each. ValueError if there is none."""
    found = [parse(text, tls) for text in texts]
    if not found:
        raise ValueError("no address to serve")
    return found


def _reuse_port(text: str, query: str) -> bool:
    found = False
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "reuseport" or value.lower() not in _TRUTH:
            raise ValueError(f"{text!r}: {name}={value} is neither reuseport=true nor reuseport=false")
        found = _TRUTH[value.lower()]
    return found
