"""python -m epoll_loop: a program cannot tell it from plain python, except by its loop."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from interpreter import not_on_pypy

import epoll_loop

ROOT = Path(epoll_loop.__file__).parent.parent

LOOPS = """
import asyncio
async def main():
    return type(asyncio.get_running_loop()).__module__
print(asyncio.run(main()))
with asyncio.Runner() as runner:
    print(runner.run(main()))
loop = asyncio.new_event_loop()
print(loop.run_until_complete(main()))
asyncio.set_event_loop(loop)
print(asyncio.get_event_loop() is loop)
loop.close()
"""

SURROUNDINGS = """
import os, sys
main = sys.modules["__main__"]
print(__name__, main.__dict__ is globals(), __package__, sys.argv, sys.path)
print(globals().get("__file__"), getattr(__loader__, "__name__", 0), type(__loader__).__name__, __doc__)
print(__spec__ and __spec__.name)
print(sorted(name for name in globals() if not name.startswith("__")))
def function(a: int) -> "no such name": pass
print(function.__annotations__)
"""


def python(*args: str, cwd: Path, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, *args],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check_same(*args: str, cwd: Path, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run something with plain python and with us: exit code and output are the same."""
    plain = python(*args, cwd=cwd, options=options)
    ours = python("-m", "epoll_loop", *args, cwd=cwd, options=options)
    assert (ours.returncode, ours.stdout, ours.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    return ours


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a program in each of the forms that python runs."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "__main__.py").write_text(SURROUNDINGS)
    (tmp_path / "sub" / "program.py").write_text(SURROUNDINGS)
    (tmp_path / "module.py").write_text(SURROUNDINGS)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text(SURROUNDINGS)
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.writestr("__main__.py", SURROUNDINGS)
    return tmp_path


FORMS = [
    ("sub/program.py",),
    ("sub",),
    ("program.zip",),
    ("-m", "module"),
    ("-m", "package"),
    ("-c", SURROUNDINGS),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: " ".join(form).split("\n")[0])
def test_surroundings_of_the_program(form: tuple[str, ...], folder: Path) -> None:
    done = check_same(*form, "--flag", "-m", "x y", cwd=folder)
    assert done.returncode == 0
    assert "'--flag', '-m', 'x y'" in done.stdout


@pytest.mark.parametrize("form", [FORMS[0], FORMS[1], FORMS[5]], ids=["file", "folder", "code"])
def test_safe_path(form: tuple[str, ...], folder: Path) -> None:
    """With -P python puts no folder in front of sys.path, and neither do we."""
    assert check_same(*form, cwd=folder, options=("-P",)).returncode == 0


@pytest.mark.parametrize(
    "form", [("program.py",), ("-m", "program"), ("-c", LOOPS)], ids=["file", "module", "code"]
)
def test_program_runs_on_our_loop_without_a_warning(form: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(LOOPS)
    done = python("-m", "epoll_loop", *form, cwd=tmp_path, options=("-W", "error"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["epoll_loop.loop"] * 3 + ["True"]


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit()",
        "import sys; sys.exit(7)",
        "import sys; sys.exit('a message')",
        "def f():\n    raise ValueError('x')\ntry:\n    1 / 0\nexcept Exception:\n    f()",
        "this is no python",
        "import sys\ndef hook(kind, exc, tb): print(kind, tb.tb_lineno)\nsys.excepthook = hook\n1 / 0",
        "import atexit; atexit.register(print, 'the end'); 1 / 0",
    ],
)
def test_end_of_the_program(code: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(code)
    check_same("program.py", cwd=tmp_path)


def test_traceback_of_code(tmp_path: Path) -> None:
    assert check_same("-c", "def f():\n    1 / 0\nf()", cwd=tmp_path).returncode == 1


def test_interrupt_kills_as_it_does_plain_python(tmp_path: Path) -> None:
    done = check_same("-c", "raise KeyboardInterrupt", cwd=tmp_path)
    assert done.returncode == -signal.SIGINT


def test_traceback_of_a_module_has_no_frame_of_ours(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("1 / 0\n")
    done = python("-m", "epoll_loop", "-m", "module", cwd=tmp_path)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{tmp_path / "module.py"}", line 1, in <module>'
    assert lines[-1] == "ZeroDivisionError: division by zero"


no_file = pytest.param(("nothing.py",), marks=not_on_pypy("no quotes around the name of the file"))


@pytest.mark.parametrize("args", [no_file, ("-m", "nothing"), ("-m", "package.nothing"), ("empty",)])
def test_program_that_is_not_there(args: tuple[str, ...], folder: Path) -> None:
    (folder / "empty").mkdir()
    assert check_same(*args, cwd=folder).returncode != 0


def test_main_is_there_to_the_end(tmp_path: Path) -> None:
    """Threads and exit handlers that outlive the last line find __main__ and its classes."""
    (tmp_path / "program.py").write_text(
        """
import atexit, pickle, threading
class Thing: pass
def work():
    threading.main_thread().join()
    print(type(pickle.loads(pickle.dumps(Thing()))) is Thing)
threading.Thread(target=work).start()
atexit.register(lambda: print(pickle.loads(pickle.dumps(Thing)) is Thing))
"""
    )
    for args in (("program.py",), ("-m", "program")):
        assert check_same(*args, cwd=tmp_path).stdout == "True\nTrue\n"


def test_no_cache_is_left_beside_the_program(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("")
    python("-m", "epoll_loop", "program.py", cwd=tmp_path)
    assert os.listdir(tmp_path) == ["program.py"]


def test_compiled_file(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SURROUNDINGS)
    code = "import py_compile; py_compile.compile('program.py', 'program.pyc')"
    assert python("-c", code, cwd=tmp_path).returncode == 0
    check_same("program.pyc", "arg", cwd=tmp_path)


def test_multiprocessing_children_find_the_program(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        """
import multiprocessing
def square(n): return n * n
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(square, [3]))
"""
    )
    for args in (("program.py",), ("-m", "program")):
        assert check_same(*args, cwd=tmp_path).stdout == "[9]\n"


def test_help(tmp_path: Path) -> None:
    done = python("-m", "epoll_loop", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m epoll_loop program.py" in done.stdout


@pytest.mark.parametrize("args", [(), ("-m",), ("--no-such-option",)])
def test_misuse(args: tuple[str, ...], tmp_path: Path) -> None:
    done = python("-m", "epoll_loop", *args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "python -m epoll_loop program.py" in done.stderr


def test_version(tmp_path: Path) -> None:
    done = python("-m", "epoll_loop", "--version", cwd=tmp_path)
    build = "compiled" if epoll_loop.COMPILED else "pure"
    assert done.stdout.startswith(f"epoll_loop {epoll_loop.__version__} ({build}, {epoll_loop.POLLER}, TLS ")
