"""What `make compat` makes of the results, and what the README says that it runs."""

import io
import re
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from compat import aiohttp_suite, exclusions, programs
from compat.results import Outcome, Report, Row

ROOT = Path(__file__).parent.parent


def outcome(passed=(), failed=(), skipped=()):
    made = Outcome()
    for test in passed:
        made.add(test, "passed")
    for test in failed:
        made.add(test, "failed", "Traceback\n  a line\nValueError: no")
    for test in skipped:
        made.add(test, "skipped", "not here")
    return made


def report(*rows, contestants=("asyncio", "epoll_loop")):
    made = Report(list(contestants))
    made.collect(Console(file=io.StringIO()), lambda say: rows)
    return made


def test_parts_of_a_suite_are_one_row():
    made = report(
        Row("suite", "a", {"asyncio": outcome("12"), "epoll_loop": outcome("12")}, Counter(why=2)),
        Row("suite", "b", {"asyncio": outcome("3"), "epoll_loop": outcome("3", skipped="4")}),
    )
    assert "| suite | 3 / 0 / 0 | 3 / 0 / 1 |" in made.markdown().splitlines()
    assert "- 2, suite: why" in made.markdown()
    assert "- 1, suite: not here" in made.markdown()
    assert made.good()


def test_what_fails_here_and_not_on_asyncio_is_a_difference():
    made = report(Row("suite", "", {"asyncio": outcome("12"), "epoll_loop": outcome("1", "2")}))
    assert [(one.contestant, one.suite, one.test) for one in made.differences()] == [("epoll_loop", "suite", "2")]
    assert "- suite: 2: ValueError: no" in made.markdown()
    assert not made.good()


def test_a_difference_with_a_reason_is_well(monkeypatch):
    monkeypatch.setitem(exclusions.DIFFERENCES, "suite", {"2": "asyncio forgets it"})
    made = report(Row("suite", "", {"asyncio": outcome("12"), "epoll_loop": outcome("1", "2")}))
    assert "- suite: 2: asyncio forgets it" in made.markdown()
    assert made.good()


def test_what_fails_on_asyncio_too_is_no_difference():
    made = report(Row("suite", "", {"asyncio": outcome("1", "2"), "epoll_loop": outcome("1", "2")}))
    assert list(made.differences()) == []
    assert made.common() == ["suite: 2: ValueError: no"]
    assert made.good()


def test_uvloop_may_fail():
    row = Row("suite", "", {"asyncio": outcome("1"), "uvloop": outcome(failed="1"), "epoll_loop": outcome("1")})
    made = report(row, contestants=["asyncio", "uvloop", "epoll_loop"])
    assert [one.contestant for one in made.differences()] == ["uvloop"]
    assert "- 1, suite: ValueError\n" in made.markdown()
    assert made.good()


def test_a_suite_that_could_not_begin_fails(tmp_path, monkeypatch):
    """Nothing ran: that is no success."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = nonsense:\n")
    monkeypatch.setattr(aiohttp_suite, "folder", lambda: tmp_path)
    made = aiohttp_suite.run("asyncio", "aiohttp", ["."])
    assert list(made.failures) == ["pytest"]
    assert "exit code of pytest: 4" in made.failures["pytest"]


def test_nothing_run_is_not_well():
    assert not report(Row("suite", "", {"asyncio": outcome("1"), "epoll_loop": outcome()})).good()


def lines_of_the_readme():
    """The code in the table of «Use it with…»."""
    section = re.search(r"^## Use it with…$(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)
    assert section is not None
    rows = [line for line in section[1].splitlines() if line.startswith("| ") and "`" in line]
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row.partition("|")[2].partition("|")[2])]


@pytest.mark.parametrize("line", lines_of_the_readme())
def test_each_line_of_the_readme_is_run_by_a_program(line):
    sources = {name: (programs.HERE / f"{name}.py").read_text() for name in programs.programs()}
    found = [name for name, source in sources.items() if line in source.replace('\\"', '"')]
    if line == "python -m epoll_loop program.py":
        found = [name for name in sources if name.startswith("programs/")]
        assert programs.COMMANDS["epoll_loop"] == ["-m", "epoll_loop"]
    assert found
