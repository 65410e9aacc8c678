"""TLS, alike for all contestants: the certificate, the server's context, and a client."""

from __future__ import annotations

import os
import ssl
from functools import cache
from pathlib import Path

import trustme

CERTIFICATE = Path(__file__).parent / ".build" / "localhost.pem"


def certificate() -> Path:
    """Key and certificate for 127.0.0.1, made once: ECDSA on P-256, which is what most servers have."""
    if not CERTIFICATE.exists():
        CERTIFICATE.parent.mkdir(exist_ok=True)
        leaf = trustme.CA().issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
        new = CERTIFICATE.with_suffix(f".{os.getpid()}")
        new.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        new.replace(CERTIFICATE)  # at once: servers start side by side
    return CERTIFICATE


def server_context(*, resumption: bool = True) -> ssl.SSLContext:
    """Python's defaults; without `resumption` every handshake is a full one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate())
    if not resumption:
        context.options |= ssl.OP_NO_TICKET  # up to TLS 1.2; in TLS 1.3 it only moves the session to the server
        context.num_tickets = 0
    return context


@cache
def client_context() -> ssl.SSLContext:
    """Trusts whom it is told to connect to, as wrk does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
