"""Libraries between a process and the C library: what they count or refuse is the same for both builds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_COMPILER = os.environ.get("CC") or "cc"

needs_preload = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which(_COMPILER), reason="no LD_PRELOAD, or no C compiler"
)


def compiled(source: Path, library: Path) -> Path:
    """Compile a library, and return where it is."""
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([_COMPILER, *flags, "-o", library, source, "-ldl"], check=True)
    return library


def environment(library: Path, **variables: str) -> dict[str, str]:
    """The environment of a process with the library before others, but behind a sanitizer, which has to be first."""
    preload = filter(None, [os.environ.get("LD_PRELOAD"), str(library)])
    return {**os.environ, "LD_PRELOAD": " ".join(preload), **variables}
