"""The benchmark of tangent kernels runs, and its figures are right where they can be: errors, never times."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).parent / "kernels.py"
PEERS = ["tangentscope", "torch.func"]


@pytest.mark.slow
def test_the_command_measures_what_agrees_with_the_reference(tmp_path: Path):
    few = ["--scale", "tiny", "--repeats", "1", "--least", "0", "--rounds", "2", "--cells", "mlp"]
    words = [*few, "--out", str(tmp_path), "--peers", *PEERS]
    printed = subprocess.run([sys.executable, COMMAND, *words], capture_output=True, text=True, timeout=240)
    assert printed.returncode == 0, printed.stderr
    records = json.loads((tmp_path / "kernels.json").read_text())["records"]["mlp"]
    assert list(records) == PEERS
    for ways in records.values():
        for record in ways:
            assert record["status"] == "measured", record
            assert math.isfinite(record["error"])
            assert record["error"] < 1e-4
            assert len(record["seconds"]) == 1
    turns = json.loads((tmp_path / "kernels.json").read_text())["turns"]["mlp"]
    assert [turn["peer"] for turn in turns][:2] == PEERS
    assert all(len(turn["seconds"]) == 2 for turn in turns)
    page = (tmp_path / "kernels.md").read_text()
    assert page in printed.stdout
    assert "; 2 rounds)" in page
    assert all(f"| mlp | {peer} (" in page for peer in PEERS)
