"""The tests on extensions built with AddressSanitizer and UndefinedBehaviorSanitizer.

    python -m reliability.sanitize [ARGUMENT…]      arguments are pytest's

They run twice: with malloc(3) for every object, so that the sanitizer sees each by itself, and with what Python checks,
PYTHONMALLOC=debug and -X dev. The extensions are built in a copy of the sources, in build/sanitize; those of the
checkout stay as they are. Whatever a sanitizer reports is an error, also in a process that a test has started.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "sanitize"
LOGS = ROOT / "build" / "sanitizer"  # the processes add their numbers

SANITIZERS = "-fsanitize=address,undefined"
BUILD = {
    "EPOLL_LOOP_REQUIRE_EXT": "1",
    "EPOLL_LOOP_CFLAGS": f"-O1 -g -fno-omit-frame-pointer {SANITIZERS} -fno-sanitize-recover=undefined",
    "LDFLAGS": SANITIZERS,
}
# Not the leaks: Python keeps much until it ends. The tests count the objects that they leave.
OPTIONS = {
    "ASAN_OPTIONS": f"detect_leaks=0:abort_on_error=1:log_path={LOGS}",
    "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={LOGS}",
}
RUNS = (("malloc", []), ("debug", ["-X", "dev"]))
# What a run cannot finish in time, being several times slower, beside tests that wait for a limit.
TIMEOUT = 600


def copy() -> None:
    """The files that git does not ignore, in a folder of their own; only what was built there before stays."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    names = set(filter(None, listed.split("\0")))
    for old in COPY.rglob("*.py"):
        if str(old.relative_to(COPY)) not in names:
            old.unlink()
    for name in names:
        source, target = ROOT / name, COPY / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def library(name: str) -> str:
    """Where the compiler has the runtime of a sanitizer."""
    compiler = os.environ.get("CC", "cc")
    found = subprocess.run([compiler, f"-print-file-name={name}"], stdout=subprocess.PIPE, text=True, check=True)
    path = found.stdout.strip()
    if not os.path.isabs(path):
        sys.exit(f"sanitize: {compiler} has no {name}")
    return path


def reports() -> list[Path]:
    """What the sanitizers have written."""
    return sorted(LOGS.parent.glob(f"{LOGS.name}.*"))


def main() -> int:
    """Build and run; 0 if all is well."""
    copy()
    for report in reports():
        report.unlink()
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=COPY, env={**os.environ, **BUILD}, check=True
    )
    env = {**os.environ, **OPTIONS, "PYTHONPATH": str(COPY), "EPOLL_LOOP_REQUIRE_EXT": "1"}
    env["LD_PRELOAD"] = " ".join(library(f"lib{name}.so") for name in ("asan", "ubsan"))
    failed = 0
    for allocator, flags in RUNS:
        python = [sys.executable, *flags]
        print(f"=== PYTHONMALLOC={allocator} {shlex.join(python)}", flush=True)
        workers = ["--dist=load", f"--tx=2*popen//python={' '.join(python)}", f"--timeout={TIMEOUT}"]
        done = subprocess.run(
            [*python, "-m", "pytest", *workers, *sys.argv[1:]],
            cwd=COPY,
            env={**env, "PYTHONMALLOC": allocator},
            check=False,
        )
        failed |= done.returncode
    for report in reports():
        print(f"=== {report}\n{report.read_text()}")
    return 1 if failed or reports() else 0


if __name__ == "__main__":
    sys.exit(main())
