"""The benchmark of real models runs, and its figures are right where they can be: errors, never times."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from kernel_peers.busy import others

COMMAND = Path(__file__).parent / "kernels_of_real_models.py"


@pytest.mark.slow
def test_the_command_measures_what_agrees_with_the_reference(tmp_path: Path):
    """Of a network of torch alone. vmap(jacrev) cannot take GRUs: a loop takes its place, and the page says so."""
    few = ["--models", "gru", "--points", "2", "--rounds", "2", "--least", "0"]
    printed = subprocess.run(
        [sys.executable, COMMAND, *few, "--out", str(tmp_path)], capture_output=True, text=True, timeout=280
    )
    assert printed.returncode == 0, printed.stderr
    records = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "records" / "2").glob("*.json")}
    assert records["gru--torch.func--jacobian"]["status"] == "failed"
    for name in ("gru--tangentscope--exact", "gru--torch.func--gradients"):
        assert records[name]["status"] == "measured", records[name]
        assert records[name]["error"] < 1e-4
    assert all(len(turn["seconds"]) == 2 for turn in records["gru--turns"]["turns"])
    page = (tmp_path / "real_models.md").read_text()
    assert page in printed.stdout
    assert "| gru | 41,354 | 2 |" in page
    assert "a loop of single gradients" in page
    assert "; 2 rounds)" in page
    assert "busy" not in page


def test_other_processes_work_and_end():
    with others(2) as started:
        for process in map(psutil.Process, started):
            while process.cpu_times().user == 0:
                assert process.is_running()
    assert not any(map(psutil.pid_exists, started))


def test_the_cost_of_the_check_is_told():
    command = [
        sys.executable,
        COMMAND.with_name("kernel_check.py"),
        "--models",
        "gru",
        "--points",
        "2",
        "--rounds",
        "1",
    ]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert printed.returncode == 0, printed.stderr
    head, line = printed.stdout.splitlines()
    assert head.startswith("model")
    assert line.startswith("gru ")
