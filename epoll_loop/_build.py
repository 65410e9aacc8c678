"""Which of the two builds runs: decided once, before any module of the hot path is imported.

The extension modules lie beside the `.py` files that they were compiled from, and Python prefers them. The
pure build is chosen by a finder that sees only the `.py` files: when `EPOLL_LOOP_PURE=1` asks for it, and
also when a single extension is missing, since compiled and pure classes of one hierarchy do not mix.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

_PACKAGE = __name__.rpartition(".")[0]
_ROOMS = ("core", "transports")


def compiled_modules() -> list[str]:
    """The full names of the modules that are compiled: those with a `.pxd`."""
    folder = Path(__file__).parent
    return [f"{_PACKAGE}.{room}.{pxd.stem}" for room in _ROOMS for pxd in sorted((folder / room).glob("*.pxd"))]


def select_build() -> bool:
    """Make sure that all extensions or none of them are imported, and return whether it is all of them."""
    wanted = os.environ.get("EPOLL_LOOP_PURE", "") in ("", "0")
    if wanted and all(_has_extension(name) for name in compiled_modules()):
        return True
    sys.meta_path.insert(0, _SourceFinder())
    return False


def _has_extension(name: str) -> bool:
    stem = Path(__file__).parent.parent.joinpath(*name.split("."))
    return any(os.path.exists(f"{stem}{suffix}") for suffix in EXTENSION_SUFFIXES)


class _SourceFinder(MetaPathFinder):
    """Finds the `.py` files of the hot path, whatever lies beside them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith(tuple(f"{_PACKAGE}.{room}." for room in _ROOMS)):
            for folder in path or ():
                spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname)
                if spec is not None:
                    return spec
            raise ModuleNotFoundError(f"{fullname} is not there in the pure build", name=fullname)
        return None


COMPILED = select_build()
"""Whether the compiled build runs."""
