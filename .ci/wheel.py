"""An sdist, a wheel that is built from it, and the tests on the wheel: `make wheel`, which leaves both in dist/.

The wheel is installed in a fresh environment, and tested in a temporary folder that has nothing but the tests of the
sdist. Arguments are pytest's.
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
NOT_SHIPPED = {".gitignore"}
GENERATED = {"PKG-INFO", "setup.cfg"}
# Those need more of the checkout than the tests; test_build.py skips what it cannot do without.
LEFT_OUT = ("test_benchmarks.py", "test_compat.py", "test_soak.py")

# A conftest.py above the tests, for each of pytest's processes: which build it is, test_build.py asserts.
PROOF = """
import sys
from pathlib import Path

import epoll_loop

assert Path(epoll_loop.__file__).is_relative_to(sys.prefix), epoll_loop.__file__
"""


def environment(folder: Path, *requirements: str) -> str:
    """The Python of a new environment with `requirements` installed."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", *requirements], check=True)
    return python


def build(python: str) -> tuple[Path, Path]:
    """The sdist, and the wheel built from what is in it."""
    for old in DIST.glob("epoll_loop-*"):
        old.unlink()
    subprocess.run([python, "-m", "build", "--outdir", DIST, ROOT], stdout=subprocess.DEVNULL, check=True)
    subprocess.run([python, "-m", "twine", "check", "--strict", *DIST.glob("epoll_loop-*")], check=True)
    (sdist,) = DIST.glob("*.tar.gz")
    (wheel,) = DIST.glob("*.whl")
    return sdist, wheel


def tracked(*folders: str) -> set[str]:
    """The files that git knows."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *folders], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return set(listed.rstrip("\0").split("\0"))


def check(what: Path, found: set[str], wanted: set[str]) -> None:
    if found != wanted:
        sys.exit(f"{what.name}: missing {sorted(wanted - found)}, too many {sorted(found - wanted)}")


def check_sdist(sdist: Path) -> None:
    """All that git knows, and what setuptools adds."""
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    check(sdist, {name for name in names - GENERATED if ".egg-info/" not in name}, tracked() - NOT_SHIPPED)


def check_wheel(wheel: Path) -> None:
    """The package as git knows it, and an extension for each .pxd: no C, no tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = tracked("epoll_loop")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    check(wheel, names, package | {name.removesuffix(".pxd") + suffix for name in package if name.endswith(".pxd")})


def unpack_tests(sdist: Path, folder: Path) -> None:
    """The tests and pytest's settings."""
    with tarfile.open(sdist) as archive:
        for member in archive:
            member.name = member.name.partition("/")[2]
            if member.name == "pyproject.toml" or member.name.startswith("tests/"):
                archive.extract(member, folder, filter="data")
    (folder / "conftest.py").write_text(PROOF)


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sdist, wheel = build(environment(work / "build", "build", "twine"))
        check_sdist(sdist)
        check_wheel(wheel)
        away = work / "away"
        unpack_tests(sdist, away)
        python = environment(work / "venv", f"{wheel}[test]")
        tests = ["-n", "2", *(f"--ignore=tests/{test}" for test in LEFT_OUT), *arguments]
        for pure in ("0", "1"):
            os.environ["EPOLL_LOOP_PURE"] = pure
            subprocess.run([python, "-m", "pytest", *tests], cwd=away, check=True)


if __name__ == "__main__":
    os.environ["EPOLL_LOOP_REQUIRE_EXT"] = "1"
    os.environ.pop("PYTHONPATH", None)
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(map(str, error.cmd))}: exit code {error.returncode}")
