"""A loop in a process that is connected to a Ray already uses that one, and leaves it as it was."""

import subprocess
import sys
from pathlib import Path

import pytest

from tangentscope import pipeline

SCRIPT = """
import sys
import ray, ray.train, torch
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer

def loop(config):
    import pipeline
    from torch import nn
    torch.manual_seed(0)
    model, points = nn.Linear(3, 2), (torch.linspace(-1, 1, 24).reshape(8, 3), torch.arange(8) % 2)
    asked = {"steps": 2, "train": points, "variables": ["trace"], "offline": True}
    with pipeline.attach(model, config["out"], **asked) as watch:
        for step in range(2):
            watch(step)
            nn.init.normal_(model.weight)
    assert ray.is_initialized() and watch.troubles == (), watch.troubles

ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
TorchTrainer(loop, train_loop_config={"out": sys.argv[1]}, scaling_config=ScalingConfig(num_workers=1)).fit()
assert ray.available_resources()["CPU"] == 4, "the prober's share has been given back"
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_worker_of_ray_train_measures_in_its_own_cluster(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "loop.py", str(tmp_path / "mine")], cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert pipeline.load(tmp_path / "mine")["state"].tolist() == ["measured"] * 3
