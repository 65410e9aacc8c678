"""TLS, alike for all contestants: the certificate, the server's context, and a client's."""

from __future__ import annotations

import os
import socket
import ssl
from functools import cache
from pathlib import Path

CERTIFICATE = Path(__file__).parent / ".build" / "localhost.pem"


def certificate() -> Path:
    """Key and certificate for 127.0.0.1, made once: ECDSA on P-256."""
    if not CERTIFICATE.exists():
        import trustme  # here: a server that is measured has no need of it

        CERTIFICATE.parent.mkdir(exist_ok=True)
        leaf = trustme.CA().issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
        new = CERTIFICATE.with_suffix(f".{os.getpid()}")
        new.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        new.replace(CERTIFICATE)  # at once: servers start side by side
    return CERTIFICATE


def server_context(*, tickets: bool = True) -> ssl.SSLContext:
    """Python's defaults; without tickets a client of TLS 1.3 has no session to come back with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate())
    if not tickets:
        context.options |= ssl.OP_NO_TICKET  # up to TLS 1.2; from TLS 1.3 on it only has the server keep the sessions
        context.num_tickets = 0
    return context


def client_context() -> ssl.SSLContext:
    """Trusts whom it is told to connect to, as wrk does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


shared_client_context = cache(client_context)


def connect(port: int) -> ssl.SSLSocket:
    """After its handshake; that of the server ends with the client's last message, on its way by then."""
    return shared_client_context().wrap_socket(socket.create_connection(("127.0.0.1", port)))
