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
    """What one address says. ValueError for what can not be served, TypeError for `tls` that is something else.

    `tls` is for the connections that come there, in place of the server's.
    """

    kind: str
    """"tcp", "udp" or "unix"."""
    host: str | None = None
    """None: every interface. Of a name TCP serves all addresses, and UDP the first."""
    port: int = 0
    path: str = ""
    """Of a Unix socket, which has no host and no port."""
    family: int = socket.AF_UNSPEC
    """AF_INET or AF_INET6, for one of the two alone."""
    reuse_port: bool = False
    tls: Any = None
    """An SSLContext, or a function that returns one, which each loop calls."""

    def __post_init__(self) -> None:
        if not (self.tls is None or callable(self.tls) or hasattr(self.tls, "wrap_bio")):
            raise TypeError(f"tls is an SSLContext, or a function that returns one, not {self.tls!r}")
        if self.kind not in ("tcp", "udp", "unix"):
            raise ValueError(f"an address is of kind tcp, udp or unix, not {self.kind!r}")
        if self.kind == "unix":
            if not (isinstance(self.path, str) and self.path):
                raise ValueError(f"a Unix address has a path, not {self.path!r}")
            if self.host is not None or self.port or self.family or self.reuse_port:
                raise ValueError("a Unix address has a path only: no host, port or family, and no port to be reused")
            return
        if self.path:
            raise ValueError(f"a {self.kind} address has a host and a port, not the path {self.path!r}")
        if not (self.host is None or isinstance(self.host, str)):
            raise ValueError(f"a host is a name, or None for every interface, not {self.host!r}")
        if type(self.port) is not int or not 0 <= self.port <= 65535:
            raise ValueError(f"a port is a number from 0 to 65535, not {self.port!r}")
        if self.family not in _INET.values():
            raise ValueError(f"a family is AF_INET, AF_INET6 or AF_UNSPEC, not {self.family!r}")
        if self.reuse_port and not hasattr(socket, "SO_REUSEPORT"):
            raise ValueError("this platform has no SO_REUSEPORT")
        if self.kind == "udp" and self.tls is not None:
            raise ValueError("there is no TLS for UDP")

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix://{self.path}"
        host = self.host or ""
        return f"{self.kind}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def where(self) -> dict[str, Any]:
        """Return what `loop.create_unix_server()` is told of it, or create_datagram_endpoint()."""
        if self.kind == "unix":
            return {"path": self.path}
        local = (self.host or None, self.port)
        return {"local_addr": local, "family": self.family, "reuse_port": self.reuse_port or None}

    def context(self) -> Any:
        """Return the SSLContext of its connections, or None.

        TypeError if the function returns something else, ValueError for a context that is for clients only.
        """
        if not callable(self.tls):
            return _of_a_server(self.tls)
        context = self.tls()
        if not hasattr(context, "wrap_bio"):
            raise TypeError(f"{self.tls!r} returned {context!r}, which is no SSLContext")
        return _of_a_server(context)


def _of_a_server(context: Any) -> Any:
    if getattr(getattr(context, "protocol", None), "name", None) == "PROTOCOL_TLS_CLIENT":
        raise ValueError("tls is a context for clients; ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) is none")
    return context


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
    try:
        if scheme == "unix":
            return Address("unix", path=rest, reuse_port=reuse_port, tls=tls)
        if scheme not in _SCHEMES:
            raise ValueError(f"it begins with none of {', '.join(_SCHEMES)} and unix")
        kind, family = _SCHEMES[scheme]
        parts = urlsplit(f"//{rest}")
        if parts.port is None or parts.path or parts.username is not None or "#" in rest:
            raise ValueError(f"it is not {scheme}://HOST:PORT")
        tls = tls if kind == "tcp" else None
        return Address(kind, parts.hostname, parts.port, family=family, reuse_port=reuse_port, tls=tls)
    except ValueError as exc:
        raise ValueError(f"{text!r}: {exc}") from None


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
