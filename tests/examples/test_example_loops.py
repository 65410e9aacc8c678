"""examples/aiohttp_loops.py."""

import importlib.util
import subprocess

import pytest
from example import LIMIT, ROOT, command, environment

pytest.importorskip("aiohttp")
pytest.importorskip("rich")


def test_the_table():
    """A row for each loop, with answers."""
    done = subprocess.run(
        [*command("aiohttp_loops"), "--rounds", "1", "--seconds", "0.1"],
        cwd=ROOT,
        env={**environment(), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    loops = ["asyncio", "uvloop", "epoll_loop"]
    assert [row[0] for row in rows] == [name for name in loops if name != "uvloop" or importlib.util.find_spec(name)]
    for _, rate, factor, cpu in rows:
        assert int(rate.replace(",", "")) > 0
        assert float(factor.removesuffix(" x")) > 0
        assert float(cpu.removesuffix(" µs")) > 0
