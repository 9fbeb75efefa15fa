"""A point that is not finite spoils its own rows and no others, wherever it stands and however rows are laid out."""

import math
from collections.abc import Callable

import pytest
import torch
from kernel_brute_force import Inputs, block, count, take
from kernel_cases import CASE
from kernel_cases import Case as Tame
from kernel_graphs import Net
from test_wild import CASES
from torch import Tensor, nn
from torch_geometric.data import Batch
from wild_case import Wild

from tangentscope.probes import draw_kernels, draw_kernels_and_traces, layer_kernels, layer_traces, tangent_kernel

WILD = {case.name: case for case in CASES}


def last_first(net: Net, x: Tensor) -> Tensor:
    """Tokens first, merged with the points."""
    rows = net.l(x.transpose(0, 1).flatten(0, 1))
    return net.h(rows.unflatten(0, (x.shape[1], -1)).tanh().prod(0))


def interleaved(net: Net, x: Tensor) -> Tensor:
    """Every row twice, one after the other, and in reversed order."""
    rows = net.l(x.flip(0).repeat_interleave(2, 0)).tanh()
    return net.h(rows.unflatten(0, (-1, 2)).prod(1)).flip(0)


def rolled(net: Net, x: Tensor) -> Tensor:
    return net.h(net.l(x.roll(1, 0)).roll(-1, 0).tanh())


def strided(net: Net, x: Tensor) -> Tensor:
    """All even points before all odd ones."""
    order = torch.cat([torch.arange(0, len(x), 2), torch.arange(1, len(x), 2)])
    return net.h(net.c(x[order]).tanh().mean((2, 3))[order.argsort()])


def build(run: Callable[[Net, Tensor], Tensor]) -> Callable[[], nn.Module]:
    return lambda: Net(run, l=nn.Linear(6, 4), h=nn.Linear(4, 2))


NETWORKS = [
    Wild("tokens first, merged", build(last_first), (4, 3, 6)),
    Wild("tokens first, merged, as many as points", build(last_first), (3, 3, 6)),
    Wild("rows twice in reversed order", build(interleaved), (4, 6)),
    Wild("rows rolled", build(rolled), (4, 6)),
    Wild("images in another order", lambda: Net(strided, c=nn.Conv2d(2, 4, 2), h=nn.Linear(4, 2)), (5, 2, 3, 3)),
    *(CASE[name] for name in (
        "mlp tanh", "points merged with tokens", "tokens first", "tokens first, as many as points", "permuted rows",
        "every row twice", "rows in two calls", "one point a call", "layer on a constant row", "tied weights", "resnet",
        "u-net", "frames merged with points", "vision transformer", "lstm", "gin", "gine", "molecules padded",
    )),
    *(WILD[name] for name in (
        "Conv1D on tokens", "heads by einsum", "gru, tokens first", "multi-head attention, tokens first",
        "demodulated convolution", "forces of an energy", "hook on a layer's output",
        "instance norm 2d", "real scale on a spectrum", "low-rank adapter merged with a layer",
    )),
]  # fmt: skip
PLACES = {"first": lambda points: 0, "middle": lambda points: points // 2, "last": lambda points: points - 1}

EVERYWHERE = [
    pytest.param(
        case,
        place,
        id=f"{case.name}-{place}",
        marks=() if place == "last" or number % 8 == 0 else (pytest.mark.slow,),
    )
    for number, case in enumerate(NETWORKS)
    for place in PLACES
]
"""Every network with a broken point at every place; by default the last one of all, and all of some."""


def broken(inputs: Inputs, point: int, value: float) -> Inputs:
    if isinstance(inputs, Tensor):
        inputs = inputs.clone()
        inputs[point] = value
        return inputs
    graphs = [inputs[i].clone() for i in range(inputs.num_graphs)]
    graphs[point].x = torch.full_like(graphs[point].x, value)
    return Batch.from_data_list(graphs)


def finite(points: int, place: str) -> tuple[int, list[int]]:
    point = PLACES[place](points)
    return point, [n for n in range(points) if n != point]


def same(case: Tame | Wild, found: Tensor, rows: list[int], columns: list[int], outputs: str, points: int) -> None:
    expected = case.kernel(outputs)
    error = (found - block(expected, points, rows, columns)).abs().max() / expected.abs().max()
    assert float(error) <= 1e-10  # false of NaN too


@pytest.mark.parametrize(("case", "place"), EVERYWHERE)
def test_finite_points_keep_their_kernel(case: Tame | Wild, place: str):
    points = count(case.make(torch.float64)[1])
    point, good = finite(points, place)
    for outputs, value in (("full", math.nan), ("traced", math.nan), ("summed", math.inf)):
        model, inputs = case.make(torch.float64)
        kernel = tangent_kernel(model, broken(inputs, point, value), outputs)
        same(case, block(kernel, points, good, good), good, good, outputs, points)
        if math.isnan(value):
            assert block(kernel, points, [point], range(points)).isnan().all()


@pytest.mark.parametrize(("case", "place"), EVERYWHERE)
def test_finite_points_keep_the_rest(case: Tame | Wild, place: str):
    """Draws with and without it, kernels between two batches that have it on either side, and the shares of layers."""
    model, inputs = case.make(torch.float64)
    points = count(inputs)
    point, good = finite(points, place)
    inputs = broken(inputs, point, math.nan)
    draws = torch.tensor([[good[0], point], [good[0], good[-1]], [good[-1], good[-1]]])
    kernels = draw_kernels(model, inputs, draws, "traced")
    assert not kernels[0].isfinite().all()
    for draw, kernel in zip(draws[1:].tolist(), kernels[1:], strict=True):
        same(case, kernel, draw, draw, "traced", points)
    clean = case.make(torch.float64)[1]
    between = tangent_kernel(model, inputs, "summed", others=take(clean, [good[0]]))
    same(case, between[good], good, [good[0]], "summed", points)
    between = tangent_kernel(model, take(clean, good[:1]), "summed", others=inputs)
    same(case, between[:, good], good[:1], good, "summed", points)
    shares = layer_kernels(model, inputs, "traced")
    same(case, sum(shares.values())[good][:, good], good, good, "traced", points)


@pytest.mark.parametrize(("case", "place"), EVERYWHERE)
def test_traces_say_so_where_they_have_it(case: Tame | Wild, place: str):
    model, inputs = case.make(torch.float64)
    points = count(inputs)
    point, good = finite(points, place)
    inputs = broken(inputs, point, math.nan)
    assert math.isnan(sum(layer_traces(model, inputs).values()))
    _, traces = draw_kernels_and_traces(model, inputs, torch.tensor([[good[0], point], [good[0], good[-1]]]), "traced")
    total = sum(traces.values())
    assert math.isnan(total[0])
    expected = block(case.kernel("traced"), points, [good[0], good[-1]], [good[0], good[-1]]).trace()
    assert float(total[1]) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "mixing",
    [
        lambda f: f.tanh() + 0.1 * f[1 % len(f)],
        lambda f: f + 0.1 * f.roll(1, 0),
        lambda f: f.nan_to_num().cumsum(0),
    ],
    ids=["one for all", "neighbours", "sums"],
)
def test_it_hides_no_mixing_of_points(mixing: Callable[[Tensor], Tensor], place: str):
    inputs = torch.randn(6, 4)
    inputs[finite(6, place)[0]] = math.nan
    with pytest.raises(ValueError, match="change with the other points"):
        tangent_kernel(Net(lambda net, x: mixing(net.layer(x)), layer=nn.Linear(4, 3)), inputs)
