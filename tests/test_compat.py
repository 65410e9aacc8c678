"""What `make compat` makes of the results, and what the README says that it runs."""

import contextlib
import io
import re
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

import epoll_loop
from compat import aiohttp_suite, exclusions, programs, suite
from compat.results import Outcome, Report, Row

ROOT = Path(__file__).parent.parent
OURS = "epoll_loop" if epoll_loop.COMPILED else "epoll_loop-pure"


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


def test_what_is_skipped_or_not_run_here_alone_is_a_difference():
    made = report(Row("suite", "", {"asyncio": outcome("123"), "epoll_loop": outcome("1", skipped="2")}))
    assert [(one.test, one.text) for one in made.differences()] == [("2", "not here"), ("3", "is not run")]
    assert not made.good()


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


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Run the suite of a project with these tests on this build of the loop, as aiohttp's are run."""
    monkeypatch.setattr(aiohttp_suite, "folder", lambda: tmp_path)
    monkeypatch.setattr(aiohttp_suite, "OPTIONS", [one for one in aiohttp_suite.OPTIONS if one != "--aiohttp-fast"])
    monkeypatch.setattr(exclusions, "AIOHTTP", {})

    def run(text):
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        (tmp_path / "test_it.py").write_text(text)
        (tmp_path / "test_well.py").write_text("".join(f"def test_{number}(): pass\n" for number in range(8)))
        return aiohttp_suite.run(OURS, "aiohttp", ["."])

    return run


def test_a_test_that_kills_its_process_fails_and_is_not_tried_again(project):
    made = project("import os, signal\ndef test_bad(): os.kill(os.getpid(), signal.SIGKILL)\n")
    assert made.failures
    # xdist names the test, or gives up itself.
    assert made.failures.get("test_it.py::test_bad", "killed its process").startswith("killed its process")
    assert "test_it.py::test_bad" not in made.passes


def test_a_file_of_tests_that_can_not_be_imported_fails(project):
    made = project("import nothing_of_that_name\n")
    assert "nothing_of_that_name" in made.failures["test_it.py"]


HEAD = """
import os, signal, sys
from test.test_asyncio import utils
ours = sys.argv[1] != "asyncio"
"""
UTILS = """
import unittest
class TestCase(unittest.TestCase):
    def new_test_loop(self, gen=None): raise NotImplementedError
    def set_event_loop(self, loop): self.addCleanup(loop.close)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Run tests as a module of test.test_asyncio, on asyncio and on this build: what they did on the latter."""
    folder = tmp_path / "test" / "test_asyncio"
    folder.mkdir(parents=True)
    for file in (folder.parent / "__init__.py", folder / "__init__.py"):
        file.touch()
    (folder / "utils.py").write_text(UTILS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setattr(suite, "HANG", 5.0)

    def run(text):
        (folder / "test_it.py").write_text(HEAD + text)
        tests = suite.tests_of("test_it")
        assert not suite.run_module("asyncio", "test_it", tests).failures
        return suite.run_module(OURS, "test_it", tests)

    return run


CRASH_BETWEEN = """
class A(utils.TestCase):
    @classmethod
    def tearDownClass(cls): ours and os.kill(os.getpid(), signal.SIGKILL)
    def test_a(self): self.new_test_loop()
class B(utils.TestCase):
    def test_b(self): self.new_test_loop()
"""
CRASH_AT_EXIT = """
import atexit
if ours: atexit.register(os.kill, os.getpid(), signal.SIGKILL)
class A(utils.TestCase):
    def test_a(self): self.new_test_loop()
"""


@pytest.mark.parametrize("text", [CRASH_BETWEEN, CRASH_AT_EXIT], ids=["between two tests", "at exit"])
def test_a_process_that_is_killed_outside_of_a_test_fails(module, text):
    made = module(text)
    assert made.passes == {"A.test_a"}
    assert list(made.failures) == ["test_it, its process"]


def test_a_subtest_that_is_skipped_does_not_hide_another_one(module):
    made = module("""
class A(utils.TestCase):
    def test_a(self):
        self.new_test_loop()
        with self.subTest(1): self.assertFalse(ours)
        with self.subTest(2): self.skipTest("not here")
""")
    assert list(made.failures) == ["A.test_a"]


def test_a_test_that_hangs_leaves_nothing_that_runs(module, tmp_path):
    pid = tmp_path / "pid"
    made = module(f"""
import subprocess
class A(utils.TestCase):
    def test_a(self):
        self.new_test_loop()
        if ours:
            child = subprocess.Popen(["sleep", "1000"])
            open({str(pid)!r}, "w").write(str(child.pid))
            child.wait()
""")
    assert made.failures == {"A.test_a": "hung, or killed the process"}
    with contextlib.suppress(FileNotFoundError):  # it is gone, or waits to be reaped by init
        assert Path(f"/proc/{pid.read_text()}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_missing_module_of_ours_is_no_reason_to_skip_a_program(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "HERE", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "broken.py").write_text("import epoll_loop.core.nothing\n")
    (tmp_path / "lacking.py").write_text("import nothing_of_that_name\n")
    assert "epoll_loop.core" in programs.run_program(OURS, "broken")
    assert programs.run_program(OURS, "broken").startswith("ModuleNotFoundError")
    assert programs.run_program(OURS, "lacking") == "skipped: No module named 'nothing_of_that_name'"



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
