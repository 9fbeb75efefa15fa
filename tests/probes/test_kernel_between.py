"""The kernel between two batches is a block of the kernel of both together."""

from collections.abc import Callable

import pytest
import torch
from kernel_brute_force import TOLERANCE, TREATMENTS, Inputs, block, count, relative_error, take
from kernel_cases import CASE, Case
from kernel_graphs import Net
from kernel_networks import mlp
from torch import Tensor, nn
from turns import in_turns

from tangentscope.probes import layer_kernels, tangent_kernel


@pytest.mark.parametrize(("case", "outputs"), in_turns("blocks", CASE, TREATMENTS))
def test_is_a_block_of_the_whole_kernel(case: Case, outputs: str):
    model, inputs = case.make(torch.float64)
    whole, N = case.kernel(outputs), count(inputs)
    first, second = range(-(-2 * N // 3)), range(N // 2, N)  # they overlap, and mostly differ in size
    kernel = tangent_kernel(model, take(inputs, first), outputs, others=take(inputs, second))
    turned = tangent_kernel(model, take(inputs, second), outputs, others=take(inputs, first))
    scale = whole.abs().max()
    assert ((kernel - block(whole, N, first, second)).abs() <= 1e-10 * scale).all()
    assert kernel.shape == turned.T.shape
    assert ((kernel - turned.T).abs() <= 1e-12 * scale).all()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", ["mlp tanh", "resnet", "tagger", "lstm", "gine"])
def test_is_no_rougher_than_the_whole_kernel(name: str, dtype: torch.dtype):
    model, inputs = CASE[name].make(dtype)
    N = count(inputs)
    kernel = tangent_kernel(model, take(inputs, range(1)), others=take(inputs, range(1, N)))
    assert kernel.dtype == dtype
    assert not kernel.requires_grad
    assert relative_error(kernel, block(CASE[name].kernel("full"), N, range(1), range(1, N))) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", ["mlp tanh", "resnet", "bare parameter", "gin"])
def test_with_itself_is_the_kernel(name: str):
    model, inputs = CASE[name].make(torch.float64)
    torch.testing.assert_close(tangent_kernel(model, inputs, others=inputs), tangent_kernel(model, inputs))


@pytest.mark.parametrize("build", [lambda: mlp(5, 7, 6), lambda: mlp(5, 1, 1)], ids=["dense", "narrow"])
def test_of_many_points_is_put_together_from_stripes(build: Callable[[], nn.Module]):
    """Of one batch only stripes above the diagonal are multiplied, the last one shorter; between two all is."""
    model, x = build().double(), torch.randn(173, 5, dtype=torch.float64)
    assert relative_error(tangent_kernel(model, x), tangent_kernel(model, x, others=x)) < 1e-12


@pytest.mark.parametrize("name", ["tied weights", "resnet", "tagger", "gine"])
def test_layer_by_layer(name: str):
    case = CASE[name]
    model, inputs = case.make(torch.float64)
    N = count(inputs)
    found = layer_kernels(model, take(inputs, range(2)), others=inputs)
    for layer, kernel in found.items():
        own = [name for name in case.jacobian() if name.rpartition(".")[0] == layer]
        expected = block(case.kernel("full", *own), N, range(2), range(N))
        assert ((kernel - expected).abs() <= 1e-10 * case.kernel("full").abs().max()).all(), layer


def test_outputs_without_a_value_spoil_their_own_rows_only():
    model = mlp(6, 4, 3)
    inputs, others = torch.randn(2, 6), torch.randn(3, 6)
    others[1] = float("nan")
    kernel = tangent_kernel(model, inputs, "traced", others=others)
    assert torch.isfinite(kernel).tolist() == [[True, False, True]] * 2


GRAPHS = CASE["gin"].make(torch.float32)[1]
ROWS = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "inputs", "others", "message"),
    [
        (CASE["gin"].build(), GRAPHS, ROWS, "others are a Tensor"),
        (nn.Linear(4, 2), ROWS, GRAPHS, "others are a .*Batch"),
        (nn.Linear(4, 2), ROWS, ROWS.numpy(), "others are a ndarray"),
        (nn.Linear(4, 2), ROWS, ROWS.double(), "others.*float64.*float32"),
        (nn.Linear(4, 2), ROWS, ROWS.to("meta"), "others are on meta"),
        (nn.Linear(4, 2), ROWS, ROWS[:0], "others hold no data points"),
        (nn.Linear(4, 2), ROWS[:0], ROWS, "inputs hold no data points"),
        (nn.Linear(4, 2), ROWS, torch.tensor(1.0), "others have no batch dimension"),
        (nn.Linear(4, 2), ROWS, torch.randn(4, 2, 4), r"others.*outputs|outputs.*others"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("unchecked")
def test_errors_name_the_argument(model: nn.Module, inputs: Inputs, others: Tensor, message: str):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        tangent_kernel(model, inputs, others=others)
    assert "\n" not in str(caught.value)


def test_batch_norm_of_a_single_image_whose_gradient_has_its_channels_last():
    """Torch 2.14 on CPU misreads such a gradient; of several images it does not."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6))
    model = Net(
        lambda net, x: (net.body(x).permute(2, 3, 0, 1) * net.scale).sin().mean((0, 1)),
        body=body,
        scale=nn.Parameter(torch.randn(6)),
    )
    model, inputs = model.double(), torch.randn(4, 2, 4, 4, dtype=torch.float64)
    whole = tangent_kernel(model, inputs)
    for columns in (slice(0, 1), slice(0, 4)):
        between = tangent_kernel(model, inputs[:1], others=inputs[columns])
        assert relative_error(between, whole[:6, : between.shape[1]]) < 1e-10
