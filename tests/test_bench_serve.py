"""`make bench-serve`: each server of its rows answers, and what is measured is drawn."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("benchmarks")
pytest.importorskip("rich")

from benchmarks import charts, redis_load
from benchmarks.serving import ROWS

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


def test_every_row_is_measured():
    command = [sys.executable, "-m", "benchmarks.serving", "--rounds=1", "--seconds=0.05", "--no-redis"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for row in ROWS.values():
        assert row.title in done.stdout
    assert len(re.findall(r"^ serve +[1-9][\d,]* ", done.stdout, re.M)) == len(ROWS)
    assert len(re.findall(r"^ C epoll +[1-9][\d,]* ", done.stdout, re.M)) == len(ROWS) - 1


@pytest.mark.skipif(bool(redis_load.missing()), reason=f"{redis_load.missing()} not on PATH")
def test_redis_is_measured(monkeypatch):
    monkeypatch.setattr(redis_load, "REQUESTS", 200)
    rates = redis_load.measure(1, None)
    assert len(rates) == 2 * len(redis_load.PIPELINES) * len(redis_load.COMMANDS)
    assert min(rates.values()) > 0
    assert redis_load.table(rates).row_count == 2


def test_charts(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "chart.svg"
    charts.draw("title", {"one": {"uvloop": 10.0, "serve": 1234.0}, "other": {"uvloop": 11.0, "serve": 12.0}}, path)
    first = path.read_text()
    assert "<!-- 1,234 -->" in first
    charts.draw("title", {"one": {"uvloop": 10.0, "serve": 1234.0}, "other": {"uvloop": 11.0, "serve": 12.0}}, path)
    assert path.read_text() == first
