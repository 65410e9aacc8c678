"""PostgreSQL, an own server, from Debian's package or from the PATH."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import own_server
import trustme

MISSING = "skipped: needs PostgreSQL (Debian package postgresql)"
USER = "postgres"  # the superuser, who needs no password


class Server:
    """A server that runs: by TCP on 127.0.0.1 at `port`, with TLS for who wants it, and in `folder` a Unix socket."""

    def __init__(self, place: own_server.Place, authority: trustme.CA) -> None:
        self.port = place.port
        self.folder = str(place.folder)
        self.authority = authority


@contextmanager
def server() -> Iterator[Server | None]:
    """Yield a new server, empty; None if there is no PostgreSQL on this machine."""
    binaries = _binaries()
    if binaries is None:
        yield None
        return
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    with own_server.place(_account()) as place:
        data = place.folder / "data"
        place.run(
            f"{binaries}/initdb",
            *(f"--pgdata={data}", f"--username={USER}", "--auth=trust", "--encoding=UTF8"),
            *("--no-locale", "--no-sync", "--no-instructions"),
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": place.port,
            "unix_socket_directories": place.folder,
            "ssl": "on",
            "ssl_cert_file": place.write("certificate.pem", certificate.cert_chain_pems[0].bytes()),
            "ssl_key_file": place.write("key.pem", certificate.private_key_pem.bytes()),
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        place.start(f"{binaries}/postgres", "-D", str(data), *options, ready=lambda: _is_ready(data))
        yield Server(place, authority)


def _binaries() -> Path | None:
    """The folder of the newest; Debian has the server's commands outside the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("initdb", path=":".join([*map(str, reversed(debian)), os.environ["PATH"]]))
    return Path(found).parent if found else None


def _account() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return None
    return "postgres" if "postgres" in {user.pw_name for user in pwd.getpwall()} else "nobody"


def _is_ready(data: Path) -> bool:
    """Whether the server has said so where pg_ctl looks, too."""
    try:
        return "ready" in (data / "postmaster.pid").read_text().split()
    except OSError:
        return False
