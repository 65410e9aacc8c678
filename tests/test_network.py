"""A connection through a network that loses, delays and reorders packets; `python -m reliability.network` does more."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CANNOT = 77


@pytest.mark.skipif(sys.platform != "linux", reason="no network namespaces")
@pytest.mark.skipif(not (ROOT / "reliability").is_dir(), reason="only in a checkout")
def test_a_bad_network():
    """Small packets, more of them lost than in a whole run: each loss is a stall, and the ends have to wait for it."""
    command = [sys.executable, "-m", "reliability.network", "--megabytes=1", "--loss=0.01", "--limit=20", "--cable"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    if done.returncode == CANNOT:
        pytest.skip(done.stdout.strip())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("1,000,000") == 4
    assert re.search(r"carried, [1-9]\d* lost, [1-9]\d* ahead", " ".join(done.stdout.split()))
