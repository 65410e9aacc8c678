"""Certificates for the tests, by the `openssl` command: Python's package for them has no wheel for PyPy."""

import ssl
import subprocess
import tempfile
from pathlib import Path

REQUEST = """
[req]
distinguished_name = subject
prompt = no
[subject]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
subjectAltName = {kind}:{name}
authorityKeyIdentifier = keyid
"""


class Certificate:
    """A key and the certificate of it."""

    def __init__(self, name: str, kind: str, *options: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            request, key, certificate = (Path(folder, part) for part in ("request", "key", "certificate"))
            request.write_text(REQUEST.format(name=name, kind=kind))
            new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", key]
            command = ["openssl", "req", "-x509", "-config", request, *new_key, "-out", certificate, *options]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            self.certificate = certificate.read_text()
            self.pem = key.read_text() + self.certificate

    def configure_cert(self, context: ssl.SSLContext) -> None:
        """Let the context say that this is who it is."""
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(self.pem)
            file.flush()
            context.load_cert_chain(file.name)


class Authority(Certificate):
    """Whoever trusts it trusts the certificates that it issues."""

    def __init__(self) -> None:
        super().__init__("authority", "DNS", "-extensions", "authority")

    def issue_cert(self, name: str) -> Certificate:
        """Return a new certificate for a host or an e-mail address."""
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(self.pem)
            file.flush()
            kind = "email" if "@" in name else "DNS"
            return Certificate(name, kind, "-extensions", "leaf", "-CA", file.name, "-CAkey", file.name)

    def configure_trust(self, context: ssl.SSLContext) -> None:
        """Let the context trust it."""
        context.load_verify_locations(cadata=self.certificate)
