"""The benchmark of playing runs; of its figures, what hangs on no time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).parent / "playing.py"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_the_command_measures_every_arm():
    tiny = ["--repeats", "1", "--iterations", "3", "--batch-size", "128", "--every", "1", "--draws", "2"]
    printed = subprocess.run([sys.executable, COMMAND, *tiny], capture_output=True, text=True, timeout=580)
    assert printed.returncode == 0, printed.stdout + printed.stderr
    found = {
        (arm, name.strip()): float(median)
        for arm, name, median in re.findall(r"^(\w+) +(\S.{21}) +(\S+) +\S+ … +\S+$", printed.stdout, re.MULTILINE)
    }
    assert {"ours", "unprobed", "probed"} <= {arm for arm, name in found if name == "rate"}
    assert all(found[arm, name] > 0 for arm, name in found if name == "rate")
    # Every part of the time is there once, and none is counted twice.
    parts = ("games", "policy", "connectors", "learning", "episodes and all else")
    assert min(found["ours", part] for part in parts) > 0
    assert sum(found["ours", part] for part in parts) == pytest.approx(1, abs=0.01)
    assert re.search(r"^probed / unprobed +\d", printed.stdout, re.MULTILINE)
