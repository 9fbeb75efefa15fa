"""The README and the pages it leads to are true: commands run, studies are planned, code does what is said."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from tangentscope import models, tasks
from tangentscope.pipeline.study.runs import make_runs
from tangentscope.pipeline.study.spec import read_study
from tangentscope.probes import VARIABLES, collective_variables

ROOT = Path(__file__).parents[2]
GUIDES = ("studies", "loops", "kernels", "games", "extending", "cluster")
README = "\n".join([(ROOT / "README.md").read_text(), *((ROOT / f"docs/{name}.md").read_text() for name in GUIDES)])


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """Every tangentscope command of the pages, in their order."""
    lines = "\n".join(blocks("bash")).replace("&&", "\n").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line[:1] == ["tangentscope"]]


@pytest.mark.ray
@pytest.mark.timeout(900)  # every command, the whole quickstart among them
def test_the_commands_run_one_after_another(tmp_path):
    """As a new user types them, in a directory of their own; the quickstart is the whole one."""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    run = partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    for command in commands():
        done = run([sys.executable, "-m", "tangentscope", *command[1:]])
        if command[1] == "stop":  # tests/ray/test_stop_and_retry.py stops one that runs
            assert "nobody runs this study" in done.stderr
            continue
        if command[1] == "submit":  # tests/ray/test_submit.py submits to a cluster that is there
            assert "http://head.example.com:8265 takes no Ray jobs" in done.stderr
            continue
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    shown = {command[1] for command in commands()}
    assert shown >= {"quickstart", "plan", "run", "submit", "status", "stop", "retry", "probe", "gc", "report", "sync"}
    assert (tmp_path / "results" / "quickstart" / "report.html").exists()
    assert (tmp_path / "results" / "narrow.csv").exists()
    namespace: dict = {}
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        (loading,) = [block for block in blocks("python") if "tangentscope.load" in block]
        exec(loading, namespace)
    finally:
        os.chdir(before)
    assert set(namespace["measurements"]["model.width"]) == {4, 16, 64, 256}


def train(loop: str, folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script there to its end; what runs other commands there."""
    (folder / "loop.py").write_text(loop)
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    run = partial(subprocess.run, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    done = run([sys.executable, "loop.py"])
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.ray
def test_the_loop_of_a_users_own_is_watched(tmp_path):
    """As a script, and seen from the command line afterwards."""
    (loop,) = [block for block in blocks("python") if "watch(step" in block]
    run = train(loop, tmp_path)
    told = run([sys.executable, "-m", "tangentscope", "status", "results/mine"])
    assert "1 finished; " in told.stdout
    refused = run([sys.executable, "-m", "tangentscope", "retry", "results/mine"])
    assert refused.returncode == 2
    assert "a loop of your own trains this; run that loop again" in refused.stderr
    assert (tmp_path / "results" / "mine" / "report.html").exists()


NETWORK = """
import torch
import torch.nn.functional as F
import tangentscope

inputs, labels = torch.randn(200, 20), torch.randint(3, (200,))
"""

# What the snippets with others' trainers leave to the script they would stand in: data, and a network as they want it.
AROUND = {
    "pytorch_lightning": NETWORK + """
import pytorch_lightning

class Dense(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(20, 3)

    def forward(self, inputs):
        return self.layer(inputs)

    def training_step(self, batch, place):
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

module = Dense()
batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, labels), 20)
""",
    "transformers": NETWORK + """
class Dense(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(20, 3)

    def forward(self, inputs, labels=None):
        outputs = self.layer(inputs)
        return outputs if labels is None else {"loss": F.cross_entropy(outputs, labels), "logits": outputs}

module = Dense()
points = [{"inputs": point, "labels": label} for point, label in zip(inputs, labels)]
""",
}  # fmt: skip


@pytest.mark.ray
@pytest.mark.parametrize("library", AROUND)
def test_trainers_of_others_are_watched(library: str, tmp_path: Path):
    if library == "transformers":  # too heavy for every change
        pytest.importorskip("accelerate", reason="its Trainer needs it: pip install transformers accelerate")
    pytest.importorskip(library, reason=f"pip install {library}")
    (block,) = [block for block in blocks("python") if f"from {library} import" in block]
    run = train(AROUND[library] + block, tmp_path)
    (results,) = (tmp_path / "results").glob("*/plan.json")
    told = run([sys.executable, "-m", "tangentscope", "status", str(results.parent)])
    assert "1 finished; " in told.stdout


def test_the_study_is_one(tmp_path):
    study, kinds = blocks("yaml")
    (tmp_path / "my.yaml").write_text(study)
    assert len(make_runs(read_study(tmp_path / "my.yaml"), None)) == 9
    assert len(make_runs(read_study(tmp_path / "my.yaml", scale="small"), None)) == 3
    assert {"workers", "cpu"} <= set(yaml.safe_load(study)["resources"]["train"])
    parts = {key: value for key, value in yaml.safe_load(study).items() if key != "model"}
    (tmp_path / "kinds.yaml").write_text(yaml.safe_dump({**parts, **yaml.safe_load(kinds), "seeds": 1}))
    names = [run.name.split()[0] for run in make_runs(read_study(tmp_path / "kinds.yaml"), None)]
    assert [f"{name}, " in f"{kinds.strip().splitlines()[1]}, " for name in names] == [True] * 6


def test_the_notebook_code_runs():
    (code,) = [block for block in blocks("python") if "tangent_kernel" in block]
    namespace: dict = {}
    exec(code, namespace)
    assert namespace["kernel"].shape == (1000, 1000)


def test_the_models_tasks_and_variables_can_be_added(monkeypatch, tmp_path):
    """Written as the README says, and with the one line in each table, a study can name them."""
    namespace: dict = {}
    for block in blocks("python"):
        if re.search(r"class \w+\((Model|Task),|Variable\(", block):
            exec(block, namespace)
    monkeypatch.setitem(models.MODELS, "bottleneck", namespace["Bottleneck"])
    monkeypatch.setitem(tasks.TASKS, "parity", namespace["Parity"])
    monkeypatch.setitem(VARIABLES, "gap", namespace["VARIABLE"])
    study = {
        "name": "mine",
        "task": {"name": "parity"},
        "model": {"name": "bottleneck", "waist": 3},
        "optimiser": {"name": "sgd", "lr": 0.1},
        "train": {"epochs": 1},
        "probes": {"variables": ["gap"]},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    (run,) = make_runs(read_study(tmp_path / "mine.yaml"), None)
    assert run.parameters == 8 * 3 + 3 + 3 * 2 + 2
    assert collective_variables(torch.diag(torch.tensor([4.0, 1.0])), ["gap"]) == {"gap": 0.75}
