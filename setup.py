"""Compile the hot path with Cython: the `.py` files that also run as they are, typed by the `.pxd` beside.

A build without extensions is a complete build. So whatever goes wrong while compiling (no compiler, no Python
headers, a refused flag) leaves the pure build and one line that says so; `EPOLL_LOOP_REQUIRE_EXT=1` makes it
an error. `EPOLL_LOOP_CFLAGS` replaces the C flags, by default `-O2 -g1`: perf needs the symbols.
"""

import os
import sys
from pathlib import Path
from textwrap import shorten

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
REQUIRED = os.environ.get("EPOLL_LOOP_REQUIRE_EXT", "") not in ("", "0")
CFLAGS = os.environ.get("EPOLL_LOOP_CFLAGS", "-O2 -g1").split()
JOBS = 2
DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # annotations are for mypy and for readers; the types of C are in the .pxd
    "binding": False,  # methods are plain method descriptors: cheaper to call
    "boundscheck": False,
    "initializedcheck": False,
    "nonecheck": False,
    "cdivision": True,
    "freethreading_compatible": True,  # a loop is its thread's; what threads share is in the notes of core/syscalls.pyx
    "embedsignature": True,  # for help() and inspect
    "embedsignature.format": "clinic",
}


def extensions() -> list[Extension]:
    """One for each `.pxd`: of the `.pyx` beside it, or else of the `.py`."""
    found = []
    for pxd in sorted(ROOT.glob("epoll_loop/*/*.pxd")):
        name = ".".join(pxd.relative_to(ROOT).with_suffix("").parts)
        sources = (pxd.with_suffix(suffix) for suffix in (".pyx", ".py"))
        source = next(source for source in sources if source.exists())
        found.append(Extension(name, [str(source.relative_to(ROOT))], extra_compile_args=CFLAGS))
    return found


class BuildExt(build_ext):
    """Cython first, then C; all of the extensions or none."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or JOBS

    def build_extensions(self) -> None:
        from Cython.Build import cythonize

        made = cythonize(
            self.extensions,
            build_dir="build/cython",
            nthreads=JOBS,
            compiler_directives=DIRECTIVES,
            quiet=True,
        )
        sources = {ext.name: ext.sources for ext in made}
        for ext in self.extensions:
            ext.sources = sources[ext.name]
        super().build_extensions()

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            if REQUIRED:
                raise
            self.leave_pure(error)

    def leave_pure(self, error: Exception) -> None:
        """Remove what was compiled, also by an earlier build, and make the wheel a `py3-none-any` one."""
        build_py = self.get_finalized_command("build_py")
        for ext in self.extensions:
            for path in self._get_inplace_equivalent(build_py, ext):
                Path(path).unlink(missing_ok=True)
        self.extensions = self.distribution.ext_modules = []
        wheel = self.distribution.get_command_obj("bdist_wheel", create=False)
        if wheel is not None:
            wheel.root_is_pure = True
        reason = shorten(str(error), 80)
        print(f"epoll_loop: could not compile ({reason}), so this is the pure build", file=sys.stderr)


# The guard: cythonize's worker processes may import this file.
if __name__ == "__main__":
    if sys.implementation.name == "cpython":
        setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
    elif REQUIRED:
        sys.exit("epoll_loop: EPOLL_LOOP_REQUIRE_EXT=1, and only CPython has the extensions")
    else:
        setup()
