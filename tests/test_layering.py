"""Imports go down only: serving -> loop -> net, process -> transports -> core. Else: the standard library."""

import ast
import re
import sys
from pathlib import Path

import pytest

import epoll_loop

PACKAGE = Path(epoll_loop.__file__).parent
LEVELS = {"core": 0, "transports": 1, "net": 2, "process": 2, "loop": 3, "serving": 4}
# These put the house together, and nothing in it imports them.
ABOVE = {"", "policy", "_build", "__main__", "pytest_plugin"}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    """The part of a name that has a level: `core` in `epoll_loop.core.timers`."""
    return f"{module}.".split(".")[1]


def imports_of(module: str) -> set[str]:
    """The modules that a module imports, wherever in it, and those that its .pxd cimports."""
    path = SOURCES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                stem = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*stem, base] if base else stem)
            found.update(f"{base}.{a.name}" if f"{base}.{a.name}" in SOURCES else base for a in node.names)
    for typed in (path.with_suffix(".pxd"), path.with_suffix(".pyx")):
        if typed.exists():
            text = typed.read_text()
            found.update(re.findall(r"^from (epoll_loop[\w.]*) c?import", text, re.MULTILINE))
            found.update(re.findall(r"^c?import (epoll_loop[\w.]*)", text, re.MULTILINE))
    return found - {module}


GRAPH = {module: imports_of(module) for module in SOURCES}


def test_the_house_is_complete():
    assert {room_of(module) for module in SOURCES} >= {"core", "transports", "net", "loop"}
    assert {room_of(module) for module in SOURCES} <= LEVELS.keys() | ABOVE


@pytest.mark.parametrize("module", [module for module in SOURCES if room_of(module) in LEVELS])
def test_imports_go_down(module):
    own = room_of(module)
    for imported in GRAPH[module]:
        if imported.split(".")[0] == "epoll_loop":
            room = room_of(imported)
            assert room in LEVELS, f"{module} imports {imported}, which stands above the levels"
            assert room == own or LEVELS[room] < LEVELS[own], f"{module} imports {imported}"


def test_no_import_cycle():
    # A cycle of .pxd files compiles, and then layouts change together.
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for imported in GRAPH[module] & SOURCES.keys():
                visit(imported, (*path, module))
            done.add(module)

    for module in SOURCES:
        if room_of(module) in LEVELS:
            visit(module, ())


def test_no_runtime_dependency():
    for module, imported in GRAPH.items():
        roots = {name.split(".")[0] for name in imported}
        theirs = {"pytest"} if module == "epoll_loop.pytest_plugin" else set()  # which imports it
        assert roots <= sys.stdlib_module_names | {"epoll_loop"} | theirs, module
