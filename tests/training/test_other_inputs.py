"""Graphs, codes, validation points, several scores, and kernels of other outputs than those that are trained."""

from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import global_add_pool
from trained_study import finish

from tangentscope.models import MODELS, Model, ModelError
from tangentscope.models.base import Codes
from tangentscope.pipeline.probing.measurer import Measurer
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.training.learner import initialise, training_of
from tangentscope.pipeline.training.loop import evaluate, train, train_together
from tangentscope.probes import draw_indices, measure
from tangentscope.tasks import TASKS, Split, Task, TaskData
from tangentscope.tasks.graphs import Graphs

KINDS = 4


def chains(counts: list[int]) -> Graphs:
    found = []
    for nodes in counts:
        ends = torch.arange(nodes - 1)
        index = torch.cat([torch.stack([ends, ends + 1]), torch.stack([ends + 1, ends])], 1)
        found.append(Data(x=(torch.arange(nodes) * nodes % KINDS)[:, None], edge_index=index))
    return Graphs(found)


class Chains(Task, frozen=True):
    """How long is a chain, and is it even? The network puts out both, and noise; the kernel is of the length alone."""

    name: Literal["chains"] = "chains"
    version: ClassVar[int] = 1
    score_name: ClassVar[str] = "worst"
    observes: ClassVar[str] = "the length"

    def load(self, data_dir: Path | None = None) -> TaskData:
        splits = [self._split(counts) for counts in (list(range(1, 30)), [3, 1, 7, 5, 2, 9, 4, 6], [8, 1])]
        return TaskData(splits[0], splits[1], (1,), 1, "chains", {"nodes": (KINDS,)}, splits[2])

    def _split(self, counts: list[int]) -> Split:
        lengths = torch.tensor(counts).float()[:, None]
        return Split(chains(counts), torch.cat([lengths / 10, lengths % 2], 1))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, :2] - targets).square().sum(1) + outputs[:, 2]

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        return (outputs[:, :2] - targets).abs().max().item()

    def further_scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"noise": outputs[:, 2].mean().item()}

    def observed(self, network: nn.Module) -> nn.Module:
        return Length(network)

    def observed_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets[:, :1]).square().sum(1)


class Net(nn.Module):
    def __init__(self, kinds: int):
        super().__init__()
        self.embed, self.hidden, self.head = nn.Embedding(kinds, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, graphs: Batch) -> Tensor:
        x = self.embed(graphs.x[:, 0])
        x = x.index_add(0, graphs.edge_index[1], x[graphs.edge_index[0]])
        x = global_add_pool(torch.tanh(self.hidden(x)), graphs.batch, graphs.num_graphs)
        found = self.head(x)
        return torch.cat([found, 0.01 * torch.randn(len(found), 1)], 1)


class Length(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, graphs: Batch) -> Tensor:
        net = self.network
        x = net.embed(graphs.x[:, 0])
        x = x.index_add(0, graphs.edge_index[1], x[graphs.edge_index[0]])
        return net.head(global_add_pool(torch.tanh(net.hidden(x)), graphs.batch, graphs.num_graphs))[:, :1]


class ChainNet(Model, frozen=True):
    name: Literal["chain_net"] = "chain_net"
    version: ClassVar[int] = 1

    def build_for_codes(self, input_shape: tuple[int, ...], outputs: int, codes: Codes) -> nn.Module:
        assert (input_shape, outputs) == ((1,), 1)
        return Net(*codes["nodes"])


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "chains", Chains)
    monkeypatch.setitem(MODELS, "chain_net", ChainNet)


KERNEL = {"outputs": "full", "draws": 3, "size": 4}


def test_a_study_of_graphs_is_trained_and_measured(tmp_path: Path):
    done = finish(tmp_path, {"name": "chain_net"}, KERNEL, [], ("trace", "entropy"), {"name": "chains"})
    run = done.plan.runs[0]
    assert run.data.to_json() | {"source": None, "fingerprint": None} == {
        **{"source": None, "fingerprint": None, "train": 29, "test": 8, "valid": 2},
        **{"input_shape": [1], "outputs": 1, "codes": {"nodes": [KINDS]}},
    }
    assert run.observes == "the length"
    measurer = Measurer(done.storage, done.plan)
    rows = measurer.measure(done.job(variables=("trace", "entropy")))["measurements"]
    data, found = done.runs[0].data, {(row["split"], row["variable"]): row["value"] for row in rows}
    network = measurer.load(run, done.job().name)[0]
    for split in ("train", "test"):
        points = getattr(data, split)
        draws = draw_indices(len(points), 3, 4, 0)
        everything = points.inputs[torch.arange(len(points))]
        expected = measure(Length(network), everything, draws, "full", ("trace", "entropy"))
        for name in ("trace", "entropy"):
            assert found[split, name] == pytest.approx(expected.mean(name), rel=1e-6)


def test_every_split_has_its_loss_and_scores(tmp_path: Path):
    done = finish(tmp_path, {"name": "chain_net"}, KERNEL, [], ("trace",), {"name": "chains"})
    history = Store(done.storage).history()
    assert set(history["split"]) == {"train", "test", "valid"}
    assert set(history["variable"]) == {"loss", "worst", "noise"}


def test_what_a_network_draws_is_drawn_alike_in_each_evaluation():
    task = Chains()
    data, what = task.load(), training_of_chains()
    network = initialise(what, data, torch.device("cpu"))
    first = evaluate(task, network, data.test)
    torch.randn(7)
    assert evaluate(task, network, data.test) == first
    assert first["noise"] != 0


def training_of_chains():
    from tangentscope.pipeline.study.runs import make_runs
    from tangentscope.pipeline.study.spec import Study

    parts = {"task": {"name": "chains"}, "model": {"name": "chain_net"}, "optimiser": {"name": "sgd", "lr": 0.01}}
    study = Study.model_validate(
        {"name": "chains", **parts, "train": {"epochs": 2, "batch_size": 8}, "probes": {"kernel": KERNEL}}
    )
    return training_of(make_runs(study, None)[0].planned())


def test_training_goes_on_the_same_from_the_same_seed():
    data, what = Chains().load(), training_of_chains()
    one, other = (train(what, data, None)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    start = initialise(what, data, torch.device("cpu")).state_dict()
    assert not any(torch.equal(one[name], start[name]) for name in one)


def test_networks_of_graphs_are_not_trained_in_one_pass():
    data, what = Chains().load(), training_of_chains()
    with pytest.raises(RuntimeError, match="graphs are of different sizes"):
        train_together([what, what], data, [None, None], torch.device("cpu"))


def test_the_loss_of_what_is_observed_is_the_one_that_variables_get(tmp_path: Path):
    done = finish(tmp_path, {"name": "chain_net"}, KERNEL, [], ("kinetic_energy",), {"name": "chains"})
    rows = Measurer(done.storage, done.plan).measure(done.job(variables=("kinetic_energy",)))["measurements"]
    assert all(row["value"] > 0 for row in rows)


def test_a_model_says_which_inputs_it_takes():
    with pytest.raises(ModelError, match=r"chain_net takes codes, such as words, got numbers"):
        ChainNet().network((3,), 1, {})
    with pytest.raises(ModelError, match=r"mlp takes numbers, got codes \(words\)"):
        MODELS["mlp"](width=3).network((3,), 1, {"words": (9,)})  # pyright: ignore[reportCallIssue]
