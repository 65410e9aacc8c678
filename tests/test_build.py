"""The two builds: which one runs, whether it is whole, and what an install makes of a compiler or none."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from pathlib import Path

import pytest

import epoll_loop
from epoll_loop._build import compiled_modules

PACKAGE = Path(epoll_loop.__file__).parent
ROOT = PACKAGE.parent
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
MODULES = compiled_modules()
COMPILED_ONLY = [name for name in MODULES if not ROOT.joinpath(*name.split(".")).with_suffix(".py").exists()]
REPORT = "import epoll_loop, epoll_loop.core.reactor as r; print(epoll_loop.COMPILED, r.__file__)"


def run(code: str, cwd: Path, **environment: str) -> str:
    """What a new Python prints that finds the package in `cwd`."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("EPOLL_LOOP_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=cwd, env=env | environment, check=True, capture_output=True, text=True
    ).stdout.strip()


# --- the build that runs


def test_the_build_is_the_one_asked_for():
    """Where extensions are required (make and CI do), only a run that asks for the pure build may have it."""
    if os.environ.get("EPOLL_LOOP_REQUIRE_EXT", "") in ("", "0"):
        pytest.skip("EPOLL_LOOP_REQUIRE_EXT is not set")
    pure = os.environ.get("EPOLL_LOOP_PURE", "") not in ("", "0")
    assert epoll_loop.COMPILED is not pure


def test_the_hot_path_is_listed():
    assert {"epoll_loop.core.reactor", "epoll_loop.core.syscalls"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_all_modules_are_of_the_build_that_runs(name):
    if name in COMPILED_ONLY and not epoll_loop.COMPILED:
        with pytest.raises(ModuleNotFoundError):
            importlib.util.find_spec(name)
        return
    loader = importlib.util.find_spec(name).loader  # not imported: a back end is of one system
    assert isinstance(loader, ExtensionFileLoader if epoll_loop.COMPILED else SourceFileLoader)


def test_extensions_are_those_that_have_a_pxd():
    files = PACKAGE.glob(f"*/*{SUFFIX}")
    found = [f"epoll_loop.{path.parent.name}.{path.name.removesuffix(SUFFIX)}" for path in files]
    if not found:
        pytest.skip("installed without extensions")
    assert sorted(found) == sorted(MODULES)


def test_pure_on_request():
    compiled, file = run(REPORT, ROOT, EPOLL_LOOP_PURE="1").split()
    assert compiled == "False"
    assert file.endswith("reactor.py")


def test_half_a_build_is_pure(tmp_path):
    """One extension alone is not used. It is an empty file here: importing it would fail."""
    shutil.copytree(PACKAGE, tmp_path / "epoll_loop", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (tmp_path / "epoll_loop" / "core" / f"reactor{SUFFIX}").touch()
    compiled, file = run(REPORT, tmp_path).split()
    assert compiled == "False"
    assert Path(file) == tmp_path / "epoll_loop" / "core" / "reactor.py"


# --- the .py and the .pxd say the same


def pxd_attributes(path: Path) -> dict[str, set[str]]:
    """The classes of a .pxd, each with its attributes: `cdef [public|readonly] type name[, name]`."""
    classes: dict[str, set[str]] = {}
    for line in path.read_text().splitlines():
        if match := re.match(r"cdef class (\w+)", line):
            attributes = classes.setdefault(match[1], set())
        elif re.match(r"\S", line):
            attributes = set()  # outside of a class
        elif re.match(r"    cdef [^(]+$", line):
            first, *more = line.partition("#")[0].split(",")
            attributes.update(name.split()[-1].lstrip("*") for name in (first, *more))
    return classes


def slots(path: Path) -> dict[str, set[str] | None]:
    """The classes of a .py, each with its `__slots__`, None where there are none."""
    classes: dict[str, set[str] | None] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            classes[node.name] = None
            for line in node.body:
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "__slots__":
                    value = ast.literal_eval(line.value)
                    classes[node.name] = {value} if isinstance(value, str) else set(value)
    return classes


# The pair that is written twice has attributes of its own on each side.
@pytest.mark.parametrize("name", sorted(set(MODULES) - {"epoll_loop.core.syscalls", *COMPILED_ONLY}))
def test_slots_are_the_attributes_of_the_pxd(name):
    path = ROOT.joinpath(*name.split("."))
    declared = pxd_attributes(path.with_suffix(".pxd"))
    found = slots(path.with_suffix(".py"))
    assert declared == {cls: found.get(cls) for cls in declared}


# --- installing, on a miniature of the package: setup.py is the real one, and there is little to compile

MINIATURE = {
    "README.md": "",
    "epoll_loop/__init__.py": "from epoll_loop._build import COMPILED\n__version__ = '0.0'\n",
    "epoll_loop/core/__init__.py": "",
    "epoll_loop/core/syscalls.py": "def half() -> str:\n    return 'py'\n",
    "epoll_loop/core/syscalls.pyx": "cpdef half():\n    return 'pyx'\n",
    "epoll_loop/core/syscalls.pxd": "cpdef half()\n",
    "epoll_loop/core/reactor.py": (
        "from epoll_loop.core.syscalls import half\n"
        "class Reactor:\n"
        "    '''Documented.'''\n"
        "    def which(self) -> str:\n"
        "        '''Documented too.'''\n"
        "        return half()\n"
    ),
    "epoll_loop/core/reactor.pxd": "cdef class Reactor:\n    pass\n",
}
USE = """
import epoll_loop
from epoll_loop.core.reactor import Reactor
print(epoll_loop.COMPILED, Reactor().which(), Reactor.__doc__, Reactor.which.__doc__)
"""
SAYS_SO = re.compile(r"^.*pure build.*$", re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    if not (ROOT / "setup.py").exists():
        pytest.skip("not a source tree")
    if os.environ.get("EPOLL_LOOP_PURE", "") not in ("", "0"):
        pytest.skip("the build that runs makes no difference: once is enough, with the compiled one")
    for name in ("setup.py", "pyproject.toml", "LICENSE", "epoll_loop/_build.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name, text in MINIATURE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def build(project: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[Path]]:
    """Build a wheel by the call that pip makes, and unpack it into `installed`."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("EPOLL_LOOP_")}
    done = subprocess.run(
        [sys.executable, "-c", "from setuptools.build_meta import build_wheel; build_wheel('dist')"],
        cwd=project,
        env=env | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    wheels = list((project / "dist").glob("*.whl"))
    for wheel in wheels:
        zipfile.ZipFile(wheel).extractall(project / "installed")
    return done, wheels


def test_install_with_a_compiler(project):
    done, wheels = build(project, EPOLL_LOOP_REQUIRE_EXT="1", EPOLL_LOOP_CFLAGS="-O0")
    assert done.returncode == 0, done.stdout
    assert not SAYS_SO.search(done.stdout)
    (wheel,) = wheels
    assert wheel.stem.endswith(sysconfig.get_platform().replace("-", "_").replace(".", "_"))

    installed = project / "installed"
    assert run(USE, installed) == "True pyx Documented. Documented too."
    assert run(USE, installed, EPOLL_LOOP_PURE="1") == "False py Documented. Documented too."
    files = {path.name for path in (installed / "epoll_loop").rglob("*.*")}
    assert {"reactor.py", "reactor.pxd", f"reactor{SUFFIX}"} <= files
    assert not {name for name in files if name.endswith(".c")}


def test_install_without_a_compiler_is_pure_and_says_so_once(project):
    done, wheels = build(project, CC="/bin/false")
    assert done.returncode == 0, done.stdout
    (line,) = SAYS_SO.findall(done.stdout)
    assert "/bin/false" in line
    (wheel,) = wheels
    assert wheel.name.endswith("-py3-none-any.whl")
    assert run(USE, project / "installed") == "False py Documented. Documented too."
    assert not list((project / "installed").rglob("*.so"))


def test_install_without_a_compiler_fails_when_extensions_are_required(project):
    done, wheels = build(project, CC="/bin/false", EPOLL_LOOP_REQUIRE_EXT="1")
    assert done.returncode != 0
    assert wheels == []
    assert "/bin/false" in done.stdout
