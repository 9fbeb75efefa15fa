"""Points of every form that a network takes: what is measured is what its kernel gives directly."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tangentscope import pipeline, probes
from tangentscope.pipeline.probing.given import as_given, in_form
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.points import read_points
from tangentscope.pipeline.store.reader import Store
from tangentscope.probes.network.structure import tensors_of
from tangentscope.tasks.graphs import Graphs

X, MASK, LABELS = torch.randn(8, 3, generator=torch.manual_seed(0)), torch.arange(8) % 3 > 0, torch.arange(8) % 2


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> dict[str, Tensor]:
        logits = self.layer(x).tanh() * scale
        return {"logits": logits if mask is None else logits * mask[:, None], "hidden": x}


@dataclass
class Batch:
    x: Tensor
    mask: Tensor


class OfBatches(Masked):
    def forward(self, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        return super().forward(batch.x, batch.mask)


MAPPING = {"x": X, "mask": MASK}
FORMS: dict[str, tuple[nn.Module, Any, Any]] = {
    "tensor": (Masked(), (X, LABELS), X),
    "array": (Masked(), (X.double().numpy(), LABELS.numpy()), X),
    "double": (Masked(), (X.double(), LABELS), X),
    "labels in a list": (Masked(), (X, LABELS.tolist()), X),
    "no targets": (Masked(), (X, None), X),
    "dict": (Masked(), (MAPPING, LABELS), MAPPING),
    "dict of arrays": (Masked(), ({"x": X.numpy(), "mask": MASK.numpy()}, LABELS), MAPPING),
    "dict with a constant": (Masked(), (MAPPING | {"scale": 0.5}, LABELS), MAPPING | {"scale": 0.5}),
    "tuple": (Masked(), ((X, MASK), LABELS), (X, MASK)),
    "data set": (Masked(), TensorDataset(X, LABELS), X),
    "data set of two inputs": (Masked(), TensorDataset(X, MASK, LABELS), (X, MASK)),
    "data class": (OfBatches(), (Batch(X, MASK), LABELS), Batch(X, MASK)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_measured_as_it_is(attach, tmp_path, form: str) -> None:
    model, points, inputs = FORMS[form]
    with attach(model, train=points, test=points, output="logits", kernel={"draws": 2, "size": 4}) as watch:
        watch(0)
    store = Store(Storage.at(tmp_path / "mine"))
    draws = probes.draw_indices(8, 2, 4, 0)
    expected = probes.measure(model, inputs, draws, "full", ["trace"], output="logits").mean("trace")
    found = pipeline.load(tmp_path / "mine").set_index("split")["value"]
    assert found.to_dict() == pytest.approx({"train": expected, "test": expected})
    indices = read_points(store.storage, store.plan.probes[0].id)["indices"]
    assert indices.tolist() == sorted(set(draws.flatten().tolist()))


def test_a_batch_of_a_tokenizer_is_a_dict(attach, tmp_path) -> None:
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    with attach(Masked(), train=(transformers.BatchEncoding(dict(MAPPING)), LABELS), output="logits") as watch:
        watch(0)
    assert pipeline.load(tmp_path / "mine")["state"].tolist() == ["measured"]


def test_graphs_as_a_batch_of_them(attach, tmp_path) -> None:
    from torch_geometric.data import Batch as GraphBatch
    from torch_geometric.data import Data
    from torch_geometric.nn import GCNConv, global_add_pool

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GCNConv(3, 2)

        def forward(self, graphs: Any) -> Tensor:
            return global_add_pool(self.conv(graphs.x, graphs.edge_index).tanh(), graphs.batch)

    edges = torch.tensor([[0, 1], [1, 0]])
    batch = GraphBatch.from_data_list([Data(x=X[k : k + 2], edge_index=edges) for k in range(6)])
    model = Net()
    with attach(model, train=(batch, LABELS[:6]), kernel={"size": 6}) as watch:
        watch(0)
    trace = probes.measure(model, batch, probes.draw_indices(6, 1, 6, 0), "full", ["trace"]).mean("trace")
    assert pipeline.load(tmp_path / "mine")["value"].tolist() == pytest.approx([trace])


def test_a_network_in_double_precision_keeps_its_points(attach, tmp_path) -> None:
    model = nn.Linear(3, 2).double()
    with attach(model, train=(X.double(), LABELS)) as watch:
        watch(0)
    store = Store(Storage.at(tmp_path / "mine"))
    assert read_points(store.storage, store.plan.probes[0].id)["inputs"].dtype == torch.float64


@pytest.mark.parametrize("form", FORMS)
def test_points_taken_out_and_put_into_their_form_are_the_same(form: str) -> None:
    model, points, inputs = FORMS[form]
    given = as_given("train", points, model)
    some = given.take(torch.tensor([5, 1]))
    assert len(given) == 8
    assert len(some) == 2
    back = some.inputs if given.form is None else in_form(given.form, some.tensors())
    first = next(iter(tensors_of(back).values()))
    assert torch.equal(first, X[[5, 1]])
    assert type(back) is type(inputs)


def test_losses_and_parts_of_the_parameters(attach, tmp_path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    asked = {"loss": F.cross_entropy, "parameters": "2.*", "variables": ["trace", "kinetic_energy"]}
    with attach(model, train=(X, LABELS), kernel={"size": 8}, **asked) as watch:
        watch(0)
    draws = np.arange(8)[None]
    direct = probes.measure(
        model, X, draws, "full", asked["variables"], targets=LABELS, loss=F.cross_entropy, parameters="2.*"
    )
    found = pipeline.load(tmp_path / "mine").set_index("variable")["value"]
    assert found.to_dict() == pytest.approx({name: direct.mean(name) for name in asked["variables"]}, rel=1e-5)


def test_graphs_of_a_task_come_as_they_are() -> None:
    graphs = Graphs([])
    assert as_given("train", (X, None), nn.Linear(3, 1)).form is None
    assert len(graphs) == 0
