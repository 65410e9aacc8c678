"""100 MB both ways at once, over TCP and TLS, through a network that loses, delays and reorders packets.

    python -m reliability.network [--megabytes 100] [--delay 0.002] [--loss 0.002] …

Two network namespaces, each with one end of a connection, joined by veth(4). `tc netem` makes the network bad where
the kernel has it, and elsewhere a program that carries each frame (cable.py). All of it goes with the processes. Needs
ip(8) and unshare(1), and the right to make namespaces. Exit status 0 if everything arrived whole, 1 if not, 77 if
namespaces can't be made here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trustme
from rich.console import Console
from rich.table import Table

from reliability.cable import Cable, Fate, compute_checksums

CANNOT = 77
INSIDE = "EPOLL_LOOP_NETWORK_INSIDE"
ROLES = ("server", "client")
ADDRESSES = {"server": "10.77.0.1", "client": "10.77.0.2"}
PORT = 7777
WIDTH = 100


def ip(*words: str, of: int | None = None) -> None:
    """Run ip(8), in the network namespace of a process perhaps."""
    subprocess.run([*_enter(of), "ip", *words], check=True)


def _enter(namespace: int | None) -> list[str]:
    return ["nsenter", "-t", str(namespace), "-n"] if namespace else []


def new_namespace() -> subprocess.Popen[bytes]:
    """A process with a network namespace of its own; both end with its standard input."""
    process = subprocess.Popen(["unshare", "-n", "cat"], stdin=subprocess.PIPE)
    ours = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{process.pid}/ns/net") == ours:
        if process.poll() is not None:
            raise RuntimeError("unshare(1) failed")
        time.sleep(0.01)
    return process


def set_up(role: str, namespace: int, mtu: int) -> None:
    """Give the interface `end` of a namespace what its role has."""
    ip("addr", "add", f"{ADDRESSES[role]}/24", "dev", "end", of=namespace)
    ip("link", "set", "end", "mtu", str(mtu), "up", of=namespace)


def join_by_netem(namespaces: dict[str, int], fate: Fate, mtu: int) -> bool:
    """Join two namespaces by veth(4), bad by tc-netem(8); False if this kernel has no netem."""
    server, client = (str(namespaces[role]) for role in ROLES)
    ip("link", "add", "end", "netns", server, "type", "veth", "peer", "name", "end", "netns", client)
    words = f"delay {fate.delay * 1000}ms {fate.jitter * 1000}ms loss {fate.loss:%} reorder {fate.reordering:%}"
    command = ["tc", "qdisc", "add", "dev", "end", "root", "netem", *words.split()]
    for role, namespace in namespaces.items():
        if subprocess.run([*_enter(namespace), *command], stderr=subprocess.DEVNULL, check=False).returncode:
            ip("link", "del", "end", of=namespaces["server"])
            return False
        set_up(role, namespace, mtu)
    return True


def join_by_cable(namespaces: dict[str, int], fate: Fate, mtu: int, seed: int) -> Cable:
    """Join two namespaces by a veth(4) each, and a bad cable between these."""
    for role, namespace in namespaces.items():
        ip("link", "add", role, "mtu", str(mtu), "type", "veth", "peer", "name", "end")
        compute_checksums("end")
        ip("link", "set", "end", "netns", str(namespace))
        set_up(role, namespace, mtu)
        ip("link", "set", role, "up")
    cable = Cable(ROLES, fate, seed)
    cable.start()
    return cable


def certify(folder: Path) -> None:
    """Write a certificate for the server's address, and who vouches for it."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    ca.issue_cert(ADDRESSES["server"]).private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))


def exchange(namespaces: dict[str, int], size: int, limit: int, *folder: str) -> list[dict[str, Any]]:
    """Have both ends send `size` bytes, within `limit` seconds; what they say of what they received."""

    def start(role: str) -> subprocess.Popen[str]:
        numbers = map(str, (PORT, size, limit))
        command = [sys.executable, "-m", "reliability.peer", role, ADDRESSES["server"], *numbers, *folder]
        return subprocess.Popen([*_enter(namespaces[role]), *command], stdout=subprocess.PIPE, text=True)

    with start("server") as server:
        assert server.stdout is not None
        if server.stdout.readline() != "ready\n":
            return []
        with start("client") as client:
            said = [process.communicate()[0] for process in (server, client)]
    return [json.loads(line) for line in said if line]


def measure(options: argparse.Namespace) -> int:
    """Make the network, use it, print a table; 0 if all arrived whole."""
    fate = Fate(options.delay, options.jitter, options.loss, options.reordering)
    size = int(options.megabytes * 1_000_000)
    table = Table("connection", "server received", "client received", "whole", "seconds", "loop")
    failed = False
    counts = None
    holders = {role: new_namespace() for role in ROLES}
    namespaces = {role: holder.pid for role, holder in holders.items()}
    cable = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            if options.cable or not join_by_netem(namespaces, fate, options.mtu):
                cable = join_by_cable(namespaces, fate, options.mtu, options.seed)
            certify(Path(folder))
            for name, arguments in (("TCP", ()), ("TLS", (folder,))):
                begin = time.monotonic()
                said = exchange(namespaces, size, options.limit, *arguments)
                seconds = time.monotonic() - begin
                whole = len(said) == len(ROLES) and all(each["whole"] for each in said)
                failed = failed or not whole
                counts_of = {each["role"]: f"{each['received']:,}" for each in said}
                received = [counts_of.get(role, "-") for role in ROLES]
                build = said[0]["build"] if said else "-"
                table.add_row(name, *received, "yes" if whole else "no", f"{seconds:.1f}", build)
        finally:
            if cable:
                counts = cable.cut()
            for holder in holders.values():
                holder.communicate()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(
        f"{fate.delay * 1000:g} to {(fate.delay + fate.jitter) * 1000:g} ms each way, {fate.loss:.2%} lost, "
        f"{fate.reordering:.2%} ahead of their turn, MTU {options.mtu}, seed {options.seed}"
    )
    if counts:
        console.print(
            f"no tc netem here; packets: {counts.carried:,} carried, {counts.lost:,} lost, "
            f"{counts.reordered:,} ahead of their turn"
        )
    console.print(table)
    return 1 if failed else 0


def main() -> int:
    """Do what the command line says, in a network namespace of our own."""
    parser = argparse.ArgumentParser(
        prog="python -m reliability.network", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=100, help="each way, by default 100")
    parser.add_argument("--delay", type=float, default=0.002, help="seconds each way")
    parser.add_argument("--jitter", type=float, default=0.001, help="seconds that are added at random")
    parser.add_argument("--loss", type=float, default=0.002, help="the part of the packets that is lost")
    parser.add_argument("--reordering", type=float, default=0.01, help="the part that overtakes the others")
    parser.add_argument("--mtu", type=int, default=700, help="bytes a packet")
    parser.add_argument("--seed", type=int, default=1, help="what is lost, late and out of order")
    parser.add_argument("--limit", type=int, default=600, help="seconds for one connection, by default 600")
    parser.add_argument("--cable", action="store_true", help="do without netem")
    options = parser.parse_args()
    return measure(options) if INSIDE in os.environ else enter_namespace()


def enter_namespace() -> int:
    """Begin again in a network namespace of our own; returns only if none can be made."""
    unshare = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    for needed in ([*unshare, "true"], ["ip", "-V"]):
        try:
            subprocess.run(needed, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        except (OSError, subprocess.CalledProcessError) as exc:
            print(f"no network namespaces here: {exc}")
            return CANNOT
    command = [*unshare, sys.executable, "-m", "reliability.network", *sys.argv[1:]]
    os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})
    raise AssertionError("execvp(3) does not return")


if __name__ == "__main__":
    sys.exit(main())
