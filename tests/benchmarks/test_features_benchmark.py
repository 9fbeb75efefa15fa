"""The benchmark of feature metrics runs, and prints a ratio a round."""

import subprocess
import sys
from pathlib import Path

COMMAND = Path(__file__).parent / "features.py"


def test_the_command_takes_turns_and_prints_ratios():
    small = ["--width", "2", "--train", "30", "--test", "20", "--rounds", "2"]
    printed = subprocess.run([sys.executable, COMMAND, *small], capture_output=True, text=True, timeout=280)
    assert printed.returncode == 0, printed.stderr
    rounds = [line for line in printed.stdout.splitlines() if line.startswith("round")]
    assert [float(line.rpartition(": ")[2]) > 0 for line in rounds] == [True, True]
    assert "times (" in printed.stdout
