"""What is no model or no data points is told, and what the message says to do works."""

import functools
from collections.abc import Callable
from typing import cast

import pytest
import torch
import torch_geometric.loader
import torch_geometric.transforms
from kernel_cases import CASE
from kernel_graphs import Net, molecule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.nn import global_add_pool
from torch_geometric.utils import add_self_loops

from tangentscope.probes import kernel_plan, layer_kernels, layer_names, layer_traces, tangent_kernel
from tangentscope.probes.givens import givens_at


def on_graphs(change: Callable[[Tensor, Batch], object]) -> nn.Module:
    return Net(lambda net, g: change(net.layer(g.x), g), layer=nn.Linear(4, 2))


GRAPHS = CASE["gin"].make(torch.float32)[1]


def refused(inputs: object, error: type[Exception], message: str, model: nn.Module | None = None) -> None:
    for refuse in (tangent_kernel, layer_kernels, layer_traces, kernel_plan):
        with pytest.raises(error, match=message) as caught:
            refuse(model or nn.Linear(6, 3), inputs)
        assert "\n" not in str(caught.value)


ROWS = torch.randn(4, 6)
SPARSE = torch.eye(6)[:4].to_sparse()
NESTED = [torch.randn(2, 6), torch.randn(3, 6)]


@pytest.mark.usefixtures("unchecked")
def test_the_mend_of_an_odd_model_works():
    layer = nn.Linear(6, 3)
    scaled = Net(lambda net, x: net.layer(x), layer=layer)
    refused(ROWS, TypeError, "model is a function, expected a torch.nn.Module: make it the forward", odd(lambda x: x))
    refused(ROWS, TypeError, "model is a method of Net, expected a torch.nn.Module: pass the Net", odd(scaled.forward))
    refused(ROWS, TypeError, "model is the class Linear, .*pass an instance of it", odd(nn.Linear))
    fixed = functools.partial(nn.functional.linear, weight=layer.weight)
    refused(ROWS, TypeError, "is a functools.partial, .*what it wraps, .*constants in a dict", odd(fixed))
    bilinear = Scaled()
    expected = 9 * tangent_kernel(bilinear.layer, ROWS)
    torch.testing.assert_close(tangent_kernel(bilinear, {"rows": ROWS, "factor": 3.0}), expected)
    for use in (layer_names, lambda model: givens_at(model, ROWS, torch.zeros(4, 3), None, {"labels"})):
        with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
            use(odd(fixed))


def odd(model: object) -> nn.Module:
    return cast(nn.Module, model)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, rows: Tensor, factor: float) -> Tensor:
        return factor * self.layer(rows)


def test_a_model_without_numbers_has_layers():
    assert layer_names(nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 2)).to("meta")) == ("0", "1")


@pytest.mark.usefixtures("unchecked")
def test_the_mend_of_odd_tensors_works():
    refused(SPARSE, TypeError, r"inputs are a sparse tensor, expected a dense one .*pass inputs.to_dense\(\)")
    torch.testing.assert_close(tangent_kernel(nn.Linear(6, 3), SPARSE.to_dense()).shape, torch.Size((12, 12)))
    refused({"input": SPARSE.to_sparse_csr()}, TypeError, r"inputs\['input'\].to_dense\(\)")
    for layout in (torch.strided, torch.jagged):
        nested = torch.nested.nested_tensor(NESTED, layout=layout)
        refused(nested, TypeError, r"inputs are a nested tensor, .*pad it with inputs.to_padded_tensor\(0\)")
        assert tangent_kernel(nn.Linear(6, 3), nested.to_padded_tensor(0)).shape == (18, 18)
    refused({"x": ROWS.numpy(), "y": ROWS}, TypeError, r"inputs\['x'\] are a ndarray, expected a tensor.*as_tensor")


@pytest.mark.usefixtures("unchecked")
def test_the_mend_of_data_sets_works():
    loader = DataLoader(TensorDataset(ROWS), batch_size=2)
    refused(loader, TypeError, r"inputs are a DataLoader, expected one batch of it: pass next\(iter\(inputs\)\)")
    refused(
        loader.dataset, TypeError, r"inputs are a TensorDataset.*torch.utils.data.DataLoader\(inputs, batch_size=64"
    )
    layer = nn.Linear(6, 3)
    torch.testing.assert_close(tangent_kernel(layer, next(iter(loader))), tangent_kernel(layer, ROWS[:2]))
    graphs = Molecules([molecule(3), molecule(2)])
    refused(graphs, TypeError, r"inputs are a Molecules.*torch_geometric.loader.DataLoader\(inputs, batch_size=64")
    one = next(iter(torch_geometric.loader.DataLoader(graphs, batch_size=64)))
    assert tangent_kernel(on_graphs(lambda rows, g: global_add_pool(rows, g.batch)), one).shape == (4, 4)


class Molecules(torch_geometric.data.Dataset):
    def __init__(self, graphs: list[Data]):
        super().__init__()
        self.graphs = graphs

    def len(self) -> int:
        return len(self.graphs)

    def get(self, idx: int) -> Data:
        return self.graphs[idx]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (
            {"a": ROWS, "b": ROWS[:3]},
            ValueError,
            r"different leading sizes: inputs\['a'\] has 4, inputs\['b'\] has 3; exp",
        ),
        ((ROWS, {"mask": ROWS[:1]}), ValueError, r"inputs\[0\] has 4, inputs\[1\]\['mask'\] has 1; .*expand"),
        ({"a": 1.0, "b": ["text"]}, TypeError, "inputs are a dict without a tensor that has rows"),
        ((torch.tensor(1.0),), TypeError, "inputs are a tuple without a tensor that has rows"),
        ({}, TypeError, "inputs are a dict without a tensor"),
        ({"a": ROWS[:0]}, ValueError, r"no data points \(\['a'\] \[0, 6\]\), expected N ≥ 1"),
        ("text", TypeError, "inputs are a str, expected a tensor"),
        (None, TypeError, "inputs are a NoneType, expected a tensor"),
        ({"graph": GRAPHS, "x": ROWS}, TypeError, r"inputs\['graph'\] are a DataBatch among others.*on each Data"),
        ({"input": ROWS.to("meta")}, ValueError, r"inputs\['input'\] are on meta and Linear on cpu"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_structures_that_are_no_points_are_told(inputs: object, error: type[Exception], message: str):
    refused(inputs, error, message)


@pytest.mark.parametrize(
    ("inputs", "others", "message"),
    [
        ({"a": ROWS, "b": ROWS}, {"a": ROWS}, r"inputs\['b'\] are a tensor with rows and others\['b'\] no tensor"),
        ({"a": ROWS}, {"a": ROWS, "c": ROWS}, r"inputs\['c'\] are no tensor and others\['c'\] a tensor with rows"),
        ({"a": ROWS, "b": ROWS}, {"a": ROWS, "b": ROWS[0, 0]}, r"others\['b'\] a tensor without dimensions"),
        ({"a": ROWS}, {"a": ROWS.double()}, r"others\['a'\] are torch.float64 and inputs\['a'\] torch.float32"),
        ({"a": ROWS}, ROWS, "others are a Tensor and inputs a dict, expected two of a kind"),
        (ROWS, GRAPHS, "others are a DataBatch and inputs a Tensor, expected two of a kind"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_others_have_the_structure_of_inputs(inputs: object, others: object, message: str):
    with pytest.raises(TypeError, match=message):
        tangent_kernel(nn.Linear(6, 3), inputs, others=others)


def put_on(batch: Batch) -> None:
    batch.weight = torch.rand(14)


def with_loops(batch: Batch) -> None:
    batch.edge_index = add_self_loops(batch.edge_index)[0]


def undirected(batch: Batch) -> None:
    batch.edge_index = torch.cat([batch.edge_index, batch.edge_index.flip(0)], 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put_on, r"inputs.weight was put on the DataBatch, .*put it on each Data before Batch.from_data_list"),
        (
            with_loops,
            r"inputs.edge_index was changed on the DataBatch \(\d+ instead of \d+\).*on each Data.*before Batch",
        ),
        (undirected, r"inputs.edge_index was changed on the DataBatch"),
    ],
)
def test_graphs_are_changed_before_they_are_collated(change: Callable[[Batch], None], message: str):
    model, batch = CASE["gin"].make(torch.float32)
    change(batch)
    refused(batch, ValueError, message, model)
    single = Batch.from_data_list([batch.get_example(0)])
    change_of_one = torch_geometric.transforms.AddSelfLoops()(single.get_example(0))
    assert tangent_kernel(model, Batch.from_data_list([change_of_one])).shape == (3, 3)


def test_features_of_a_batch_may_have_other_values():
    model, batch = CASE["gin"].make(torch.float32)
    expected = tangent_kernel(model, Batch.from_data_list([g.update({"x": 2 * g.x}) for g in batch.to_data_list()]))
    batch.x = 2 * batch.x
    torch.testing.assert_close(tangent_kernel(model, batch), expected)


def test_several_kinds_of_nodes_are_changed_before_they_are_collated():
    graph = HeteroData()
    graph["a"].x, graph["a", "to", "a"].edge_index = torch.randn(3, 4), torch.tensor([[0, 1], [1, 2]])
    batch = Batch.from_data_list([graph, graph])
    batch["a"].weight = torch.rand(6)
    refused(batch, ValueError, r"inputs\['a'\].weight was put on the HeteroDataBatch", on_graphs(lambda rows, g: rows))
    del batch["a"].weight
    model = Net(lambda net, g: net.layer(g["a"].x), layer=nn.Linear(4, 2))
    refused(batch, ValueError, r"shape \[6, 2\] for 2 inputs, a row for each node", model)


def test_graphs_that_were_not_collated_are_told():
    batch = Batch(x=torch.randn(3, 4), batch=torch.tensor([0, 0, 1]))
    refused(
        batch, ValueError, "not collated from single graphs, .*make it with Batch.from_data_list", on_graphs(torch.add)
    )
