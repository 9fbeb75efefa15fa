"""What cannot be measured is refused before a loop begins, in one line, and nothing of the user's changes."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from in_process import InProcess
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tangentscope.pipeline.system.errors import UserError

INPUTS, CLASSES = torch.linspace(-1, 1, 24).reshape(8, 3), torch.arange(8) % 2
POINTS = INPUTS, CLASSES


class Logits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": x.sum(), "logits": self.layer(x)}


class Locked(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 2)
        self.points = iter(DataLoader(TensorDataset(INPUTS)))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"train": (INPUTS[:, :2], CLASSES)}, "attach(): train: two points could not be measured: RuntimeError: mat1 and"),
    ({"test": (INPUTS[:, :2], CLASSES)}, "attach(): test: two points could not be measured: RuntimeError: mat1 and"),
    ({"model": Logits()}, "attach(): train: two points could not be measured: the model returned a dict"),
    ({"model": Logits(), "output": "logit"}, "did you mean 'logits'?"),
    ({"variables": ["trace", "class_within"], "train": (INPUTS, CLASSES.float())}, "attach(): train: class_within: "),
    ({"variables": ["trace", "label_alignment"], "train": (INPUTS, CLASSES * 7)}, "target 7 is no class of 2"),
    ({"variables": ["trace", "label_alignment"], "train": (INPUTS, None)}, "label_alignment needs labels"),
    ({"variables": ["trace", "kinetic_energy"], "loss": lambda f, y: 1 / 0}, "kinetic_energy: ZeroDivisionError"),
    ({"variables": ["trase"]}, "attach(): variables: got ['trase']; variable \"trase\" unknown"),
    ({"variables": "trace"}, 'attach(): variables: got "trace", expected a list of names'),
    ({"variables": ["kinetic_energy"]}, "attach(): kinetic_energy needs the loss of each point; pass loss="),
    ({"schedule": "log"}, 'attach(): schedule: got \'log\', expected one of {"kind": "log", "points": 40}'),
    ({"schedule": {"at": [0, 9]}}, "attach(): schedule.at: got step 9, but the training has 4 steps"),
    ({"schedule": {"evry": 1}}, "attach(): schedule.evry: unknown key"),
    ({"kernel": {"size": 9}}, "attach(): kernel.size: got 9 points in a draw, but train has 8"),
    ({"kernel": 20}, "attach(): kernel: got 20, expected a mapping"),
    ({"train": (INPUTS, CLASSES[:7])}, "attach(): train: a split needs one target per input; got 8 inputs, 7 targets"),
    ({"train": INPUTS}, "attach(): train: got a Tensor; expected (inputs, targets)"),
    ({"train": (INPUTS, "a")}, "attach(): train: targets: got a str; expected a tensor with one row a point"),
    ({"train": ({"a": INPUTS, "b": INPUTS[:4]}, CLASSES)}, "got inputs of different lengths (['a'] 8, ['b'] 4)"),
    ({"train": (np.array([object()]), CLASSES)}, "attach(): train: inputs: got an array of object"),
    ({"train": (INPUTS[:0], CLASSES[:0])}, "attach(): train: got no points"),
    ({"train": DataLoader(TensorDataset(*POINTS))}, "attach(): train: got a DataLoader, expected (inputs, targets)"),
    ({"resources": {"probe": {"actor": 2}}}, "attach(): resources.probe.actor: unknown key"),
    ({"steps": 0}, "attach(): steps: got 0, expected at least 1"),
    ({"steps": 2.5}, "attach(): steps: got 2.5, expected at least 1 and whole"),
    ({"seed": -1}, "attach(): seed: got -1, expected at least 0"),
    ({"config": 3}, "attach(): config: got a int, expected a mapping"),
    ({"model": nn.LazyLinear(2)}, "attach(): parameter weight has no numbers yet"),
    ({"model": Locked()}, "attach(): Locked cannot be copied"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=range(len(REFUSED)))
def test_what_does_not_hold_is_told_before_the_loop(attach, tmp_path, changes: dict[str, Any], said: str) -> None:
    asked = {"model": nn.Linear(3, 2), **changes}
    with pytest.raises(UserError) as refused:
        attach(asked.pop("model"), **asked)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(("rank", "refused"), [("1", True), ("0", False)])
def test_only_rank_0_attaches(attach, monkeypatch: pytest.MonkeyPatch, rank: str, refused: bool) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    if refused:
        with pytest.raises(UserError, match=r"attach\(\) in rank 1 of 2: only rank 0 attaches"):
            attach(nn.Linear(3, 2))
    else:
        attach(nn.Linear(3, 2)).close()


def test_a_size_that_is_not_given_is_no_more_than_the_points(attach) -> None:
    watch = attach(nn.Linear(3, 2), kernel={"draws": 2})
    (probe,) = InProcess.latest.launch.storage.read_json("plan.json")["probes"]
    assert (probe["draws"], probe["size"]) == (2, 8)
    watch.close()


class Moody(nn.Module):
    """Counts its passes, sets itself up by the first data it sees, and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.drop = nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(2))
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        self.register_buffer("ready", torch.tensor(False))
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.seen.append(len(x))
        x = self.layer(x)
        if not self.ready:
            self.scale.data.copy_(x.detach().abs().mean(0))
            self.ready.fill_(True)
        np.random.rand()
        return self.drop(self.norm(x)) * self.scale + 0 * torch.rand(2)


def test_nothing_of_the_users_changes(attach) -> None:
    model = Moody()
    model.drop.eval()
    optimiser = torch.optim.Adam(model.parameters())
    F.cross_entropy(model(INPUTS), CLASSES).backward()
    optimiser.step()

    def state() -> list[Any]:
        found: list[Any] = [*copy.deepcopy(model.state_dict()).values()]
        found += [copy.deepcopy(parameter.grad) for parameter in model.parameters()]
        found += [part.training for part in model.modules()]
        # Not Python's own generator, from which beartype draws while tests run; tests/probes look after that one.
        found += [torch.get_rng_state(), np.random.get_state()[1], list(model.seen)]
        return found + [value for each in optimiser.state.values() for value in each.values()]

    def changed(after: list[Any]) -> list[int]:
        """Places in the state that are not as before."""
        pairs = zip(before, after, strict=True)
        equal = [torch.equal(a, b) if isinstance(a, Tensor) else np.array_equal(a, b) for a, b in pairs]
        return [place for place, yes in enumerate(equal) if not yes]

    before = copy.deepcopy(state())
    with attach(model, variables=["trace", "label_alignment"], test=POINTS) as watch:
        assert changed(state()) == [], "by attach()"
        for step in range(4):
            watch(step, loss=1.0)
        assert changed(state()) == [], "by watch()"
    assert changed(state()) == [], "by close()"
