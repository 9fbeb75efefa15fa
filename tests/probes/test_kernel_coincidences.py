"""Sizes that agree by chance, and points whose gradients are of very different sizes, mislead nobody."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kernel_brute_force import brute_force_kernel, contract, jacobian, relative_error
from kernel_graphs import Net
from torch import Tensor, nn

from tangentscope.probes import kernel_plan, layer_kernels, tangent_kernel
from tangentscope.probes.kernels.plan import PER_SAMPLE


@pytest.fixture(params=["never", "first", "always"], autouse=True)
def check(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules are right by themselves, and whatever was checked before."""
    monkeypatch.setenv("TANGENTSCOPE_CHECK", request.param)


def parameter(*shape: int) -> nn.Parameter:
    torch.manual_seed(0)
    return nn.Parameter(torch.randn(shape, dtype=torch.float64))


def agrees(model: nn.Module, inputs: Tensor, tolerance: float = 1e-10) -> None:
    """As a whole, and block by block, with single points on one side or both."""
    expected = brute_force_kernel(model, inputs, "full")
    assert relative_error(tangent_kernel(model, inputs), expected) < tolerance
    rows = len(expected) // len(inputs)
    for i in range(len(inputs)):
        alone = tangent_kernel(model, inputs, others=inputs[i : i + 1])
        assert relative_error(alone, expected[:, i * rows : (i + 1) * rows]) < tolerance
        assert (
            relative_error(
                tangent_kernel(model, inputs[i : i + 1]), expected[i * rows : (i + 1) * rows, i * rows : (i + 1) * rows]
            )
            < tolerance
        )


TABLES = {
    "normalised": lambda table: F.normalize(table, dim=-1),
    "cumulated": lambda table: table.softmax(-1).cumsum(-1),
    "as it is": lambda table: table,
}


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_as_many_fields_as_points(make):
    """Of every field its own table: table[arange(fields), ids] is no row of its own for each point."""
    model = Net(lambda net, ids: make(net.table)[torch.arange(3), ids].sum(1), table=parameter(3, 5, 4))
    agrees(model, torch.tensor([[0, 1, 2], [3, 1, 4], [2, 2, 0]]))


def test_rows_looked_up_at_places_of_their_own():
    model = Net(
        lambda net, x: net.layer(x)[torch.arange(len(x)), x[:, :, 0].argmax(1)].tanh(), layer=nn.Linear(4, 3).double()
    )
    agrees(model, torch.randn(3, 3, 4, dtype=torch.float64))
    assert PER_SAMPLE not in {layer.path for layer in kernel_plan(model, torch.randn(3, 3, 4).double()).layers}


OPERATIONS = {
    "product": lambda net: net.w * net.g,
    "quotient": lambda net: net.w / net.g.exp(),
    "difference": lambda net: net.w - net.g,
    "expansion": lambda net: net.g.expand(3, 2) * net.w,
}


@pytest.mark.parametrize("make", OPERATIONS.values(), ids=OPERATIONS)
def test_points_that_meet_other_columns_by_chance(make):
    model = Net(lambda net, ids: make(net)[:, ids].T, w=parameter(3, 2), g=parameter(1))
    agrees(model, torch.tensor([0, 0, 1]))
    agrees(model, torch.tensor([1, 0, 1]))


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e8])
def test_a_point_of_large_gradients_does_not_take_all(scale: float):
    model = Net(lambda net, x: torch.cdist(x[:, :4], net.c * net.g) * x[:, 4:], c=parameter(3, 4), g=parameter(1))
    inputs = torch.cat([torch.randn(3, 4), torch.tensor([[1.0], [scale], [1.0]])], 1).double()
    expected, found = brute_force_kernel(model, inputs, "traced"), tangent_kernel(model, inputs, "traced")
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_an_operation_in_half_precision_elsewhere_loosens_nothing():
    torch.manual_seed(6)
    model = Net(
        lambda net, x: torch.cdist(x, net.c * net.g) @ net.w + (x.bfloat16() @ net.v.bfloat16()).float(),
        c=nn.Parameter(torch.randn(3, 4)), g=nn.Parameter(torch.ones(1)), w=nn.Parameter(torch.randn(3, 2)),
        v=nn.Parameter(0.01 * torch.randn(4, 2)),
    )  # fmt: skip
    inputs = torch.randn(3, 4)
    expected = contract(jacobian(model, inputs)["c"], "full")
    assert relative_error(tangent_kernel(model, inputs, parameters="c"), expected) < 1e-5


@pytest.mark.parametrize("turned", [False, True])
def test_a_convolution_whose_weight_is_stored_transposed(turned: bool):
    """Its last two dimensions are no matrix."""

    def run(net: Net, x: Tensor) -> Tensor:
        found = F.conv1d(x, net.w.mT, net.b)
        return (found if turned else found + F.conv1d(x, net.w)).mean(-1)

    model = Net(run, w=parameter(5, 3, 3), b=parameter(5))
    agrees(model, torch.randn(3, 3, 7, dtype=torch.float64))
    assert PER_SAMPLE not in {layer.path for layer in kernel_plan(model, torch.randn(3, 3, 7).double()).layers}


def test_gradients_scaled_by_frequency_are_those_of_each_point_alone():
    model = nn.Embedding(5, 2, scale_grad_by_freq=True).double()
    agrees(model, torch.tensor([1, 1, 3]))


def test_hooks_of_modules_that_clip():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    model[2].register_full_backward_pre_hook(lambda module, gradients: (gradients[0].clamp(-0.1, 0.1),))
    agrees(model, torch.randn(3, 4, dtype=torch.float64))


def test_conjugated_numbers():
    model = Net(lambda net, h: (torch.view_as_complex(net.e).conj() * 1)[h].real, e=parameter(5, 4, 2))
    agrees(model, torch.tensor([4, 0, 3]))


def test_data_in_sparse_rows():
    model = Net(lambda net, x: (x.to_sparse_csr() @ net.w).tanh(), w=parameter(4, 3))
    agrees(model, torch.randn(3, 4, dtype=torch.float64))


ENTRIES = torch.tensor([[0, 0, 1, 2, 4], [1, 3, 0, 2, 3]])
SPARSE: dict[str, Callable[[Tensor], Tensor]] = {
    "coordinates": lambda values: torch.sparse_coo_tensor(ENTRIES, values, (5, 4)),
    "rows": lambda values: torch.sparse_coo_tensor(ENTRIES, values, (5, 4)).to_sparse_csr(),
    "made dense": lambda values: torch.sparse_coo_tensor(ENTRIES, values, (5, 4)).to_dense(),
}


@pytest.mark.parametrize("points", [1, 3])
@pytest.mark.parametrize("build", SPARSE.values(), ids=SPARSE)
def test_sparse_weights_of_trained_values(build: Callable[[Tensor], Tensor], points: int):
    """A single point shares nothing with others, so that the sparse tensor itself may be taken for its rows."""
    model = Net(lambda net, x: net.out((build(net.values) @ x.T).T.tanh()), values=parameter(5), out=nn.Linear(5, 2))
    agrees(model.double(), torch.randn(points, 4, dtype=torch.float64))


def test_a_weight_kept_in_half_precision_has_its_rule():
    """Autograd rounds its gradient to what it is kept in, which the check allows for."""
    model = Net(lambda net, x: F.linear(x, net.w.float()), w=nn.Parameter(torch.randn(3, 4).bfloat16()))
    assert {layer.path for layer in kernel_plan(model, torch.randn(3, 4)).layers} == {"outputs"}


def test_experts_that_see_some_of_the_tokens_of_each_point():
    def run(net: Net, x: Tensor) -> Tensor:
        hidden = net.embed(x).tanh()
        rows, chosen = hidden.flatten(0, 1), (x.flatten(0, 1)[:, 0] > 0).nonzero()[:, 0]
        return rows.index_add(0, chosen, net.up(net.down(rows[chosen]).relu())).view_as(hidden).mean(1)

    torch.manual_seed(0)
    model = Net(run, embed=nn.Linear(4, 4), down=nn.Linear(4, 5), up=nn.Linear(5, 4)).double()
    for points in (2, 3):
        inputs = torch.randn(points, 5, 4, dtype=torch.float64)
        agrees(model, inputs)
        assert all(kernel.trace() > 0 for kernel in layer_kernels(model, inputs).values())
        assert PER_SAMPLE not in {layer.path for layer in kernel_plan(model, inputs).layers}
