"""What has no kernel: broken networks show it, wrong arguments are told."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from kernel_brute_force import TREATMENTS, Inputs, least_memory
from kernel_cases import CASE
from kernel_graphs import Net
from kernel_networks import mlp
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from tangentscope.probes import kernel_plan, layer_kernels, layer_traces, tangent_kernel


@pytest.mark.parametrize("name", ["mlp tanh", "resnet", "tied weights", "vision transformer"])
def test_broken_networks_give_a_kernel_that_shows_it(name: str):
    model, inputs = CASE[name].make(torch.float32)
    inputs[0, 0] = float("nan")
    assert not torch.isfinite(tangent_kernel(model, inputs)).all()


@pytest.mark.parametrize("outputs", TREATMENTS)
def test_outputs_without_a_value_have_no_kernel(outputs: str):
    """The gradients of a bias that overflowed are as finite as ever; a kernel made of them would hide it."""
    model, inputs = mlp(6, 4, 3), torch.randn(2, 6)
    whole = tangent_kernel(model, inputs, outputs)
    with torch.no_grad():
        model[2].bias[1] = float("inf")
    kernel = tangent_kernel(model, inputs, outputs)
    good = torch.tensor([True, False, True] * 2 if outputs == "full" else [False] * 2)
    assert torch.equal(torch.isfinite(kernel), torch.outer(good, good))
    torch.testing.assert_close(kernel[good][:, good], whole[good][:, good])


def wrapped(change: Callable[[Tensor], object]) -> nn.Module:
    return Net(lambda net, x: change(net.layer(x)), layer=nn.Linear(6, 3))


def on_graphs(change: Callable[[Tensor, Batch], object]) -> nn.Module:
    return Net(lambda net, g: change(net.layer(g.x), g), layer=nn.Linear(4, 2))


def with_sparse_weight() -> nn.Module:
    layer = nn.Linear(6, 3)
    layer.weight = nn.Parameter(layer.weight.detach().to_sparse())
    return layer


GOOD, VARIED = torch.zeros(4, 6), torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
GRAPHS = CASE["gin"].make(torch.float32)[1]
MIXES = "change with the other points"


@pytest.mark.parametrize(
    ("model", "inputs", "outputs", "error", "message"),
    [
        (nn.ReLU(), GOOD, "full", ValueError, "ReLU has no trainable parameters.*set requires_grad"),
        (nn.Linear(6, 3).requires_grad_(False), GOOD, "full", ValueError, "no trainable parameters"),
        (nn.Linear(6, 3), GOOD[:0], "full", ValueError, r"no data points \(shape \[0, 6\]\).*at least one"),
        (nn.Linear(6, 3), GOOD, "trace", ValueError, "outputs='trace'.*'full', 'traced', 'summed'"),
        (nn.Linear(6, 3), torch.tensor(1.0), "full", ValueError, "no batch dimension.*unsqueeze"),
        (
            nn.Linear(6, 3),
            GOOD[0],
            "full",
            ValueError,
            r"shape \[3\] for 6 inputs.*expected \[6, ...\].*batch dimension",
        ),
        (wrapped(lambda f: f.T), GOOD, "full", ValueError, r"shape \[3, 4\] for 4 inputs"),
        (wrapped(lambda f: f.sum()), GOOD, "full", ValueError, r"shape \[\] for 4 inputs"),
        (wrapped(lambda f: (f, f)), GOOD, "full", TypeError, "returned a tuple, expected a floating-point tensor"),
        (nn.Sequential(nn.Linear(6, 3)).to("meta"), GOOD, "full", ValueError, "Sequential lies on the meta.*to_empty"),
        (nn.Linear(6, 3).to("meta"), GOOD.to("meta"), "full", ValueError, "has no numbers, expected loaded weights"),
        (wrapped(lambda f: f.argmax(1)), GOOD, "full", TypeError, "returned a torch.int64 tensor"),
        (wrapped(lambda f: f.detach()), GOOD, "full", ValueError, "do not depend on any trainable parameter.*detach"),
        (
            nn.Linear(6, 3),
            GOOD.to("meta"),
            "full",
            ValueError,
            r"inputs are on meta and Linear on cpu.*inputs.to\('cpu'\)",
        ),
        (nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 3).to("meta")), GOOD, "full", ValueError, "lies on cpu, meta"),
        (nn.Linear(6, 3), GOOD.numpy(), "full", TypeError, "inputs are a ndarray, expected a tensor.*as_tensor"),
        (nn.Linear(6, 3, dtype=torch.complex64), GOOD, "full", TypeError, "parameter weight is not real"),
        (with_sparse_weight(), GOOD, "full", TypeError, "parameter weight is a sparse tensor, expected a dense one"),
        # Outputs of a point that depend on the others, wherever the point stands.
        (wrapped(lambda f: f - f.mean(0)), VARIED, "full", ValueError, MIXES),
        (wrapped(lambda f: f.cumsum(0)), VARIED, "full", ValueError, MIXES),
        (wrapped(lambda f: f.flip(0).cumsum(0).flip(0)), VARIED, "full", ValueError, MIXES),
        (wrapped(lambda f: f - f[:1]), VARIED, "full", ValueError, MIXES),
        (wrapped(lambda f: f - f[-1:]), VARIED, "full", ValueError, MIXES),
        (wrapped(lambda f: f.softmax(0)), VARIED, "traced", ValueError, MIXES),
        (
            nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, track_running_stats=False)),
            GOOD,
            "full",
            ValueError,
            "BatchNorm1d '1' has no running statistics.*track_running_stats=True",
        ),
        (
            nn.Sequential(nn.Embedding(5, 3, max_norm=1.0), nn.Flatten()),
            torch.randint(5, (4, 2)),
            "full",
            ValueError,
            "Embedding '0' has max_norm.*set max_norm=None",
        ),
        (nn.LazyLinear(3), GOOD, "full", ValueError, "LazyLinear has lazy layers.*call it once"),
        (
            wrapped(lambda f: torch.utils.checkpoint.checkpoint(lambda h: h.tanh(), f, use_reentrant=True)),
            VARIED,
            "full",
            ValueError,
            "reentrant checkpointing: pass use_reentrant=False",
        ),
        # Outputs that depend on chance, in eval mode too.
        (wrapped(lambda f: f + torch.rand_like(f)), GOOD, "full", ValueError, "eval mode deterministic"),
        (wrapped(lambda f: F.dropout(f.repeat(1, 9), 0.5, True)), VARIED, "summed", ValueError, "deterministic"),
        # Graphs.
        (
            on_graphs(lambda rows, g: rows),
            GRAPHS,
            "full",
            ValueError,
            r"shape \[14, 2\] for 4 inputs, a row for each node, expected one for each graph: pool them",
        ),
        (
            Net(lambda net, g: net.layer(g.edge_attr), layer=nn.Linear(3, 2)),
            GRAPHS,
            "full",
            ValueError,
            r"a row for each edge, expected one for each graph",
        ),
        (on_graphs(lambda rows, g: (rows - rows.mean(0))[: g.num_graphs]), GRAPHS, "full", ValueError, MIXES),
        (nn.Linear(4, 2), Data(x=torch.randn(3, 4)), "full", TypeError, "inputs are a Data.*Batch"),
        (nn.Linear(4, 2), [Data(x=torch.randn(3, 4))], "full", TypeError, "inputs are a list.*from_data_list.inputs."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(model: nn.Module, inputs: Inputs, outputs: str, error: type[Exception], message: str):
    for refuse in (
        lambda: tangent_kernel(model, inputs, outputs),
        lambda: layer_kernels(model, inputs, outputs),
        lambda: layer_traces(model, inputs, outputs),
        lambda: kernel_plan(model, inputs, outputs),
    ):
        model.train()
        with pytest.raises(error, match=message) as caught:
            refuse()
        assert "\n" not in str(caught.value)
        assert model.training


@pytest.mark.parametrize("change", [lambda f: f - f.mean(0), lambda f: f.cumsum(0), lambda f: f + torch.rand_like(f)])
def test_no_ceiling_hides_that_points_mix(change: Callable[[Tensor], Tensor]):
    """Taken one by one, as little memory may ask for, the points would seem to be alone."""
    least = least_memory(lambda memory_bytes: tangent_kernel(wrapped(torch.tanh), VARIED, memory_bytes=memory_bytes))
    with pytest.raises(ValueError, match=MIXES):
        tangent_kernel(wrapped(change), VARIED, memory_bytes=2 * least)


def test_an_output_that_is_near_zero_by_chance_is_no_mixing_of_points():
    """Its rounding is that of the numbers that cancel in it, and differs between one row and many."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(333, 512), nn.Tanh(), nn.Linear(512, 1))
    inputs = torch.randn(40, 333, generator=generator)
    with torch.no_grad():
        for _ in range(3):  # the last point's output, as near to zero as rounding lets it be
            network[2].bias -= network(inputs)[-1]
        assert network(inputs)[-1].abs() < 1e-6
    kernel = tangent_kernel(network, inputs)
    expected = tangent_kernel(network.double(), inputs.double())
    assert torch.allclose(kernel.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.max()))
