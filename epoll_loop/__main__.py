"""Run a program that knows nothing of epoll_loop on it, unchanged.

    python -m epoll_loop program.py args...     a file, or a directory or zip file with a __main__.py
    python -m epoll_loop -m module args...      a module or package
    python -m epoll_loop -c code args...        a string
    python -m epoll_loop --help | --version

asyncio.run(), asyncio.Runner and asyncio.new_event_loop() in the program give an epoll_loop loop; a program that names
another loop's class keeps that. All else is as with plain python: sys.argv, sys.path, __main__, exit code, traceback.
Python's own options go before the -m: python -X dev -m epoll_loop program.py
"""

from __future__ import annotations

import asyncio
import linecache
import os
import pkgutil
import platform
import runpy
import sys
import textwrap
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any

import epoll_loop
from epoll_loop import policy


def main() -> None:
    """Run what the command line says."""
    match sys.argv[1:]:
        case ["-m", module, *args]:
            install()
            run_module(module, ["-m", *args])
        case ["-c", code, *args]:
            install()
            run_code(code, ["-c", *args])
        case ["-h" | "--help"]:
            print((__doc__ or "").strip())
        case ["-V" | "--version"]:
            build = "compiled" if epoll_loop.COMPILED else "pure"
            choices = f"{build}, {epoll_loop.POLLER}, TLS {epoll_loop.TLS_ENGINE}"
            print(f"epoll_loop {epoll_loop.__version__} ({choices}, Python {platform.python_version()})")
        case [path, *_] if not path.startswith("-"):
            install()
            run_path(path, sys.argv[1:])
        case _:
            print((__doc__ or "").strip(), file=sys.stderr)
            sys.exit(2)


def install() -> None:
    """Make asyncio give out our loop wherever the program does not choose another one itself."""
    if policy.HAS_POLICIES:
        # A policy answers every way to ask for a loop, also in forked children. Only our own call goes
        # without the deprecation warning; what the program does with policies warns as ever.
        policy.set_policy()
    else:
        # What is left to hook: Runner looks the function up in `asyncio.events`, programs do so in `asyncio`.
        asyncio.new_event_loop = asyncio.events.new_event_loop = policy.new_event_loop


def run_module(name: str, argv: list[str]) -> None:
    """Do what `python -m name` does."""
    sys.argv[:] = argv
    _new_main()
    # Private, and what the interpreter itself calls for -m. The public run_module() takes __main__ away again
    # before the program's last threads and exit handlers have run.
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def run_code(code: str, argv: list[str]) -> None:
    """Do what `python -c code` does."""
    sys.argv[:] = argv
    _set_first_path("")
    if sys.version_info >= (3, 14):
        code = textwrap.dedent(code)
    if sys.version_info >= (3, 13):  # whose tracebacks show it
        linecache.cache["<string>"] = (len(code), None, code.splitlines(keepends=True), "<string>")
    module = _new_main()
    exec(_compile(code, "<string>"), module.__dict__)


def run_path(path: str, argv: list[str]) -> None:
    """Do what `python path` does."""
    sys.argv[:] = argv
    if pkgutil.get_importer(path) is not None:  # a directory or a zip file
        if sys.flags.safe_path:
            sys.path.insert(0, "")  # the program's own modules are found in it, come what may
        sys.path[0] = os.path.abspath(path)
        _new_main()
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    _set_first_path(os.path.dirname(os.path.realpath(path)))
    file = os.path.abspath(path)
    compiled = path.endswith(".pyc")
    loader = (SourcelessFileLoader if compiled else SourceFileLoader)("__main__", file)
    module = _new_main()
    module.__dict__.update(__file__=file, __loader__=loader)
    try:
        # The source is compiled here, since its get_code() would leave a __pycache__ beside the program.
        code: Any = loader.get_code("__main__") if compiled else _compile(loader.get_data(file), file)
    except OSError as exc:
        why = f"[Errno {exc.errno}] {exc.strerror}"
        print(f"{sys.executable}: can't open file {file!r}: {why}", file=sys.stderr)
        sys.exit(2)
    exec(code, module.__dict__)


def _compile(source: str | bytes, file: str) -> CodeType:
    return compile(source, file, "exec", dont_inherit=True)


def _new_main() -> ModuleType:
    """Put a fresh `__main__` in the place of this one, for good: pickle and threads need it to the end."""
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__dict__.update(__builtins__=sys.modules["builtins"], __loader__=BuiltinImporter)
    return module


def _set_first_path(entry: str) -> None:
    if not sys.flags.safe_path:
        sys.path[0] = entry


def _hide_our_frames() -> None:
    """Let the traceback of an uncaught exception begin in the program, as plain python has it."""
    hook = sys.excepthook
    ours = {__file__, run_path.__code__.co_filename, runpy.__file__, "<frozen runpy>"}

    def print_exception(kind: type[BaseException], exc: BaseException, tb: TracebackType | None) -> None:
        while tb is not None and tb.tb_frame.f_code.co_filename in ours:
            tb = tb.tb_next
        hook(kind, exc.with_traceback(tb), tb)

    sys.excepthook = print_exception


if __name__ == "__main__":
    try:
        main()
    except SystemExit:
        raise
    except BaseException:
        _hide_our_frames()  # the rest, from the printing to the exit code, is the interpreter's
        raise
