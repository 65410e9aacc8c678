"""`make bench-serve`: each server of its rows answers, and what is measured is judged and drawn."""

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("benchmarks")
pytest.importorskip("rich")

from benchmarks import charts, redis_load
from benchmarks.callbacks import HELLO
from benchmarks.load import build
from benchmarks.loops import why_not
from benchmarks.processes import Process
from benchmarks.rows import BARE_C
from benchmarks.serving import ROWS, draw
from benchmarks.targets import judge

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


def test_every_row_is_measured():
    command = [sys.executable, "-m", "benchmarks.serving", "--rounds=1", "--seconds=0.05", "--no-redis"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for row in ROWS.values():
        assert row.title in done.stdout
    assert len(re.findall(r"^ serve +[1-9][\d,]* ", done.stdout, re.M)) == len(ROWS)
    assert len(re.findall(r"^ C epoll +[1-9][\d,]* ", done.stdout, re.M)) == len(ROWS)
    judged = re.findall(r"^serve: .*: (met|missed)$", done.stdout, re.M)
    assert len(judged) == len(ROWS) * (1 if why_not("uvloop") else 2)
    assert f"targets met: {judged.count('met')} of {len(judged)}\n" in done.stdout


def round_of(rate, uvloop, cpu, bare):
    """What is measured in a round, as far as the targets are about it."""
    measured = {"serve": {"rate": rate, "cpu_us": cpu}, "uvloop": {"rate": uvloop}, BARE_C: {"cpu_us": bare}}
    return {name: metrics for name, metrics in measured.items() if None not in metrics.values()}


@pytest.mark.parametrize(
    ("numbers", "met"),
    [
        ((110.0, 100.0, 3.2, 2.0), [True, True]),
        ((109.0, 100.0, 3.2, 2.0), [False, True]),
        ((110.0, 100.0, 3.21, 2.0), [True, False]),
        ((100.0, 110.0, 30.0, 2.0), [False, False]),
        ((110.0, None, 3.2, 2.0), [True]),  # no uvloop: CPU time alone
        ((109.0, 100.0, 3.2, None), [False]),  # no compiler
    ],
)
def test_the_targets(numbers, met):
    assert [judgement.met for judgement in judge([round_of(*numbers)], "serve")] == met


def test_the_targets_are_judged_by_medians():
    rounds = [round_of(rate, 100.0, cpu, 2.0) for rate, cpu in ((1000.0, 0.1), (100.0, 9.0), (100.0, 9.0))]
    judgements = judge(rounds, "serve")
    assert [judgement.met for judgement in judgements] == [False, False]
    assert list(map(str, judgements)) == [
        "1.00 x the rate on uvloop, of at least 1.1: missed",
        "9.00 µs of CPU time, of at most 1.1 x 2.00 + 1 = 3.20: missed",
    ]


def test_bare_c_gives_the_answer_of_the_others():
    process = Process([build("echo"), "--http"])
    try:
        with socket.create_connection(("127.0.0.1", int(process.readline())), 20) as client:
            for count in (1, 3):
                client.sendall(b"GET / HTTP/1.1\r\nHost: me\r\n\r\n" * count)
                assert client.recv(len(HELLO) * count, socket.MSG_WAITALL) == HELLO * count
    finally:
        assert process.stop() == ""


@pytest.mark.skipif(bool(redis_load.missing()), reason=f"{redis_load.missing()} not on PATH")
def test_redis_is_measured(monkeypatch):
    monkeypatch.setattr(redis_load, "REQUESTS", 200)
    rates = redis_load.measure(1, None)
    assert len(rates) == 2 * len(redis_load.PIPELINES) * len(redis_load.COMMANDS)
    assert min(rates.values()) > 0
    assert redis_load.table(rates).row_count == 2


def test_charts(tmp_path):
    pytest.importorskip("matplotlib")
    panels = {"one": {"uvloop": 10.0, "serve": 1234.0}, "other": {"uvloop": 11.0, "serve": 12.0}}
    pictures = []
    for name in ("first.svg", "again.svg"):
        charts.draw("title", panels, tmp_path / name)
        pictures.append((tmp_path / name).read_text())
    for text in ("title: requests a second", "one", "other", "1,234", "serve()", "asyncio.Protocol, uvloop"):
        assert f"<!-- {text} -->" in pictures[0]
    assert pictures[0] == pictures[1]


def test_all_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    rates = {name: dict.fromkeys(charts.LOOKS, 1000.0) for name in ROWS}
    servers = (redis_load.EXAMPLE, redis_load.REDIS)
    redis = {(name, p, c): 1000.0 for name in servers for p in redis_load.PIPELINES for c in redis_load.COMMANDS}
    draw(tmp_path, rates, redis)
    names = ["echo.svg", "http.svg", "pipeline1.svg", "pipeline16.svg", "pipeline8.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    draw(tmp_path / "few", {"http": rates["http"]}, None)
    assert [path.name for path in (tmp_path / "few").iterdir()] == ["http.svg"]
