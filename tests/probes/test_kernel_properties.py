"""What holds for the kernel of any network."""

import math
from functools import partial

import pytest
import torch
from hypothesis import strategies as st
from kernel_brute_force import TREATMENTS, block, brute_force_kernel, least_memory, relative_error
from kernel_cases import disturb
from kernel_graphs import Net
from torch import Tensor, nn
from turns import tried

from tangentscope.probes import draw_kernels, layer_kernels, layer_traces, tangent_kernel

ACTIVATIONS = (nn.Tanh, nn.GELU, nn.Softplus, lambda: nn.ReLU(inplace=True))


def layers(channels: int, size: int, axes: int) -> st.SearchStrategy[nn.Module]:
    """Layers that take [N, channels, *[size] * axes], without changing the number of axes."""
    widths, yes = st.integers(1, 4), st.booleans()
    divisors = [g for g in range(1, channels + 1) if channels % g == 0]
    groups = st.sampled_from(divisors)
    spread = [g for g in divisors if channels // g * size**axes > 1]  # more than one value in each group
    affine = st.sampled_from([True, True, False])
    norms = [
        *([st.builds(nn.GroupNorm, st.sampled_from(spread), st.just(channels), affine=affine)] if spread else []),
        st.builds([nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d][axes], st.just(channels), affine=affine),
        st.builds(nn.LayerNorm, st.just([channels] + [size] * axes), elementwise_affine=affine, bias=yes),
    ]
    if axes == 0:
        return st.one_of(st.builds(nn.Linear, st.just(channels), widths, bias=yes), *norms)
    convolution = st.builds(
        lambda g, width, kernel, **options: [nn.Conv1d, nn.Conv2d][axes - 1](
            channels, g * width, kernel, groups=g, **options
        ),
        groups,
        st.integers(1, 2),
        st.integers(1, min(3, size)),
        stride=st.integers(1, 2),
        padding=st.integers(0, 1) if size > 1 else st.just(0),
        padding_mode=st.sampled_from(["zeros", "reflect", "circular"]),
        bias=yes,
    )
    transposed = st.builds(
        lambda g, width, kernel, stride: [nn.ConvTranspose1d, nn.ConvTranspose2d][axes - 1](
            channels, g * width, kernel, groups=g, stride=stride
        ),
        groups,
        st.integers(1, 2),
        st.integers(1, 2),
        st.integers(1, 2) if size < 5 else st.just(1),
    )
    last_axis = [st.builds(nn.Linear, st.just(size), st.just(size), bias=yes), st.builds(nn.RMSNorm, st.just(size))]
    return st.one_of(convolution, transposed, *last_axis, *norms)


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A stack of random layers and activations and a dense head, in float64, with some points."""
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    axes = draw(st.integers(0, 2))
    shape = [draw(st.integers(1, 4)), *[draw(st.integers(1, 4))] * axes]
    inputs = torch.randn(draw(st.integers(1, 5)), *shape)
    model = nn.Sequential().eval()
    for _ in range(draw(st.integers(0, 3))):
        channels, *sizes = model(inputs).shape[1:]
        model.append(draw(layers(channels, sizes[0] if sizes else 0, axes)).eval())
        model.append(draw(st.sampled_from(ACTIVATIONS))())
    head = nn.Linear(model(inputs).flatten(1).shape[1], draw(st.integers(1, 3)))
    model = nn.Sequential(model, nn.Tanh(), nn.Flatten(), head)
    disturb(model)
    return model.double(), inputs.double()


anything = partial(tried, networks(), few=10, many=50)


@anything(st.sampled_from(TREATMENTS))
def test_is_right_symmetric_and_positive(drawn: tuple[nn.Module, Tensor], outputs: str):
    model, inputs = drawn
    kernel = tangent_kernel(model, inputs, outputs)
    rows = model(inputs).shape[1] if outputs == "full" else 1
    assert kernel.shape == (len(inputs) * rows,) * 2
    assert torch.equal(kernel, kernel.T)
    assert relative_error(kernel, brute_force_kernel(model, inputs, outputs)) <= 1e-10
    single = tangent_kernel(model.float(), inputs.float(), outputs).double()
    for found, rounding in ((kernel, 1e-12), (single, 1e-6)):
        values = torch.linalg.eigvalsh(found)
        assert values[0] >= -rounding * values[-1]


@anything(st.sampled_from(TREATMENTS))
def test_follows_the_order_and_the_repetition_of_points(drawn: tuple[nn.Module, Tensor], outputs: str):
    model, inputs = drawn
    N = len(inputs)
    order = [*torch.randperm(N).tolist(), 0, N - 1]
    whole = tangent_kernel(model, inputs, outputs)
    again = tangent_kernel(model, inputs[order], outputs)
    torch.testing.assert_close(again, block(whole, N, order, order), rtol=1e-10, atol=1e-10)
    again = tangent_kernel(model, inputs, outputs, others=inputs[order])
    torch.testing.assert_close(again, block(whole, N, range(N), order), rtol=1e-10, atol=1e-10)


@anything(st.sampled_from(TREATMENTS), st.sampled_from([-1e3, -1.0, 1e-6, 0.5, 3.0]))
def test_scales_with_the_square_of_the_outputs(drawn: tuple[nn.Module, Tensor], outputs: str, factor: float):
    model, inputs = drawn
    scaled = tangent_kernel(Net(lambda net, x: factor * net.body(x), body=model), inputs, outputs)
    assert relative_error(scaled, factor**2 * tangent_kernel(model, inputs, outputs)) <= 1e-12


@anything()
def test_treatments_derive_from_the_full_kernel(drawn: tuple[nn.Module, Tensor]):
    model, inputs = drawn
    full = tangent_kernel(model, inputs).unflatten(1, (len(inputs), -1)).unflatten(0, (len(inputs), -1))
    traced, summed = torch.einsum("iaja->ij", full) / full.shape[1], full.sum((1, 3)) / full.shape[1]
    torch.testing.assert_close(tangent_kernel(model, inputs, "traced"), traced, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tangent_kernel(model, inputs, "summed"), summed, rtol=1e-10, atol=1e-10)


@anything(st.sampled_from(TREATMENTS), st.sampled_from(["layer", "block"]))
def test_is_the_sum_of_its_layers(drawn: tuple[nn.Module, Tensor], outputs: str, by: str):
    model, inputs = drawn
    kernel = tangent_kernel(model, inputs, outputs)
    found, traces = layer_kernels(model, inputs, outputs, by=by), layer_traces(model, inputs, outputs, by=by)
    assert relative_error(sum(found.values()), kernel) <= 1e-12
    assert traces == pytest.approx({layer: float(share.trace()) for layer, share in found.items()}, rel=1e-10)
    assert math.fsum(traces.values()) == pytest.approx(float(kernel.trace()), rel=1e-10)


@anything(st.sampled_from(TREATMENTS), st.floats(1, 20), st.booleans())
def test_does_not_depend_on_the_memory(drawn: tuple[nn.Module, Tensor], outputs: str, times: float, between: bool):
    model, inputs = drawn
    others = inputs[1:] if between and len(inputs) > 1 else None

    def kernel(memory_bytes: int | None = None) -> Tensor:
        return tangent_kernel(model, inputs, outputs, others=others, memory_bytes=memory_bytes)

    assert relative_error(kernel(int(times * least_memory(kernel))), kernel()) <= 1e-12


@anything(st.sampled_from(TREATMENTS), st.integers(1, 4), st.integers(1, 4))
def test_draws_are_blocks(drawn: tuple[nn.Module, Tensor], outputs: str, draws: int, size: int):
    model, inputs = drawn
    indices = torch.randint(len(inputs), (draws, size))
    whole = tangent_kernel(model, inputs, outputs)
    expected = torch.stack([block(whole, len(inputs), draw, draw) for draw in indices.tolist()])
    torch.testing.assert_close(draw_kernels(model, inputs, indices, outputs), expected, rtol=1e-10, atol=1e-10)
