"""Folders and files of a user's that are called as ours hide none of ours, and a clone of ours hides no import."""

import subprocess
import sys
from pathlib import Path

import pytest

OURS = ("pipeline", "probes", "models", "tasks", "studies")
SCRIPT = """
import models
import tangentscope
import torch

kernel = tangentscope.tangent_kernel(torch.nn.Linear(2, 1, bias=False), torch.eye(2))
assert kernel.tolist() == [[1.0, 0.0], [0.0, 1.0]], kernel
assert tangentscope.attach.__module__.startswith("tangentscope.pipeline.")
print(models.WHOSE, len(tangentscope.load.__doc__) > 0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's, with packages and files of our names, and a clone of our repository: a folder without an __init__."""
    for name in OURS[:3]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("WHOSE = 'mine'\n")
    for name in OURS[3:]:
        (tmp_path / f"{name}.py").write_text("raise ImportError('the wrong one')\n")
    (tmp_path / "tangentscope" / "pipeline").mkdir(parents=True)
    (tmp_path / "tangentscope" / "README.md").write_text("")
    return tmp_path


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_in_the_working_directory(folder: Path):
    assert "quickstart" in run(["-m", "tangentscope", "ls", "studies"], folder)


def test_beside_a_script(folder: Path):
    (folder / "script.py").write_text(SCRIPT)
    assert run(["script.py"], folder) == "mine True\n"
