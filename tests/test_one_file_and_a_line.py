"""What docs/extending.md says: a model, a task, a variable, a figure and a claim are each one file and one line."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "probes", "models", "tasks", "studies")
PAGE = (ROOT / "docs/extending.md").read_text()
# Where the page says that a new file goes, and to which file one line is added.
ENTRY = re.compile(
    r"Write\s+`([\w/]+\.py)`, and add one\s+line to\s+`([\w/]+\.py)`:\s+`([^`]+)`\.\n\n```python\n(.*?)```", re.S
)

STUDY = """
name: mine
task: {name: parity}
model: {name: bottleneck, waist: 2}
optimiser: {name: sgd, lr: 0.1}
train: {epochs: 1, batch_size: 32}
seeds: 5
probes: {schedule: {kind: log, points: 3}, kernel: {outputs: full, draws: 1, size: 8}, variables: [trace, gap]}
report: {figures: [losses], claims: [trace_doubles]}
"""


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """A copy of the code with all that the page adds."""
    for package in (*PACKAGES, "tangentscope"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, symlinks=True, ignore=ignored)
    entries = ENTRY.findall(PAGE)
    assert len(entries) == 5
    for file, table, line, code in entries:
        assert not (tmp_path / file).exists()
        (tmp_path / file).write_text(code)
        before = (tmp_path / table).read_text()
        first = re.search(r"^from tangentscope", before, flags=re.M)
        assert first is not None
        (tmp_path / table).write_text(f"{before[: first.start()]}{line}\n{before[first.start() :]}")
    return tmp_path


def test_a_study_can_name_all_of_them(extended: Path):
    (extended / "mine.yaml").write_text(STUDY)
    words = [sys.executable, "-m", "tangentscope", "plan", "mine.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(extended)}
    done = subprocess.run(words, cwd=extended, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "5 runs" in done.stdout


def test_the_figure_draws_and_the_claim_decides(extended: Path):
    code = "\n".join(
        [
            "from tangentscope.pipeline.report.figures import FIGURES",
            "from tangentscope.pipeline.report.claims import CLAIMS",
            "print(FIGURES['losses'].__module__, CLAIMS['trace_doubles'].source)",
        ]
    )
    environment = {**os.environ, "PYTHONPATH": str(extended)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=extended, env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.stdout == "tangentscope.pipeline.report.figures.losses our own\n", done.stderr
