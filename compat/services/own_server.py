"""A database server for one program, in a folder of its own. Neither outlives the program, be it killed."""

from __future__ import annotations

import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0  # seconds, for the start as for the end

# It reads the number of the server's process, and then nothing until the program ends, in whatever way.
_KEEPER = """
while read -r line; do server=$line; done
if [ "$server" ] && kill -s INT "$server" 2>/dev/null; then
    tries=0
    while kill -s 0 "$server" 2>/dev/null && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done
    kill -s KILL "$server" 2>/dev/null
fi
rm -rf "$1"
"""


class Place:
    """Where a server lives: `folder`, and `port`, a TCP port of 127.0.0.1 that nobody else is given meanwhile."""

    def __init__(self, folder: Path, port: int, user: str | None, keeper: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.port = port
        self._user = user
        self._keeper = keeper
        self._server: subprocess.Popen[bytes] | None = None

    def run(self, *command: str) -> None:
        """Run a command to its end. CalledProcessError if it fails."""
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._options())

    def write(self, name: str, data: bytes) -> str:
        """Write a file that is nobody else's to read, and return its path."""
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(data)
        if self._user is not None:
            shutil.chown(path, self._user)
        return str(path)

    def start(self, *command: str, ready: Callable[[], bool]) -> None:
        """Start the server and return when `ready()`. RuntimeError with its output if that does not come."""
        output = self.folder / "output.txt"
        with output.open("wb") as file:
            options = self._options() | {"stdout": file, "stderr": file, "start_new_session": True}
            self._server = subprocess.Popen(command, **options)
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(b"%d\n" % self._server.pid)
        self._keeper.stdin.flush()
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not start: {output.read_text()}")
            time.sleep(0.02)

    def leave(self) -> None:
        """Let the keeper end the server and remove the folder."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        if self._server is not None:
            self._server.wait(PATIENCE)
        self._keeper.wait(PATIENCE)

    def _options(self) -> dict[str, object]:
        options = {"cwd": self.folder, "stdin": subprocess.DEVNULL}
        if self._user is not None:
            options |= {"user": self._user, "group": self.folder.group(), "extra_groups": []}
        return options


@contextmanager
def place(user: str | None = None) -> Iterator[Place]:
    """Yield a place for a server that runs as this user (None: as who runs this). On leaving, all of it is gone."""
    folder = Path(tempfile.mkdtemp(prefix="compat-"))
    # In a session of its own, as Ctrl-C is for the program.
    keeper = subprocess.Popen(["sh", "-c", _KEEPER, "keeper", folder], stdin=subprocess.PIPE, start_new_session=True)
    # Bound and not listening, so that a server with SO_REUSEADDR can listen there and no one else is given the number.
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        if user is not None:
            shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)
        where = Place(folder, holder.getsockname()[1], user, keeper)
        try:
            yield where
        finally:
            where.leave()
