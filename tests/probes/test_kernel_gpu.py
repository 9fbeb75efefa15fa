"""The engine on a GPU: the same kernels, within the same bounds."""

import pytest
import torch
from kernel_brute_force import TOLERANCE, TREATMENTS, Inputs, block, count, relative_error
from kernel_cases import CASE, CASES, Case
from kernel_networks import mlp
from torch import nn
from turns import in_turns

from tangentscope.probes import draw_kernels_and_traces, layer_kernels, layer_traces, tangent_kernel

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is here")]


def on_gpu(case: Case, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
    model, inputs = case.make(dtype)
    return model.to("cuda"), inputs.to("cuda")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("outputs", TREATMENTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_agrees_with_brute_force(case: Case, outputs: str, dtype: torch.dtype):
    kernel = tangent_kernel(*on_gpu(case, dtype), outputs)
    assert kernel.is_cuda
    assert torch.equal(kernel, kernel.T)
    assert relative_error(kernel.cpu(), case.kernel(outputs)) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("case", "outputs"), in_turns("gpu", CASE, TREATMENTS))
def test_draws_and_blocks_agree_with_brute_force(case: Case, outputs: str):
    model, inputs = on_gpu(case, torch.float64)
    points = count(inputs)
    expected = case.kernel(outputs)
    draws = torch.tensor([[0, points - 1], [points // 2, 0]])
    kernels, traces = draw_kernels_and_traces(model, inputs, draws, outputs)
    for draw, kernel in zip(draws.tolist(), kernels, strict=True):
        assert relative_error(kernel.cpu(), block(expected, points, draw, draw)) <= 1e-10
    assert float(sum(traces.values())[0]) == pytest.approx(float(kernels[0].trace()), rel=1e-10)
    between = tangent_kernel(model, inputs, outputs, others=inputs)
    assert relative_error(between.cpu(), expected) <= 1e-10
    parts = layer_kernels(model, inputs, outputs)
    assert relative_error(sum(parts.values()).cpu(), expected) <= 1e-10
    assert sum(layer_traces(model, inputs, outputs).values()) == pytest.approx(float(expected.trace()), rel=1e-10)


def test_little_memory_gives_the_same_kernel_and_is_kept_to():
    model, inputs = mlp(64, 256, 256, 8, activation=nn.ReLU).cuda(), torch.randn(512, 64, device="cuda")
    expected = tangent_kernel(model.double(), inputs.double())
    model, ceiling = model.float(), 3 * 512**2 * 8**2 * 4  # the kernel itself is a third
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    kernel = tangent_kernel(model, inputs, memory_bytes=ceiling)
    assert torch.cuda.max_memory_allocated() - before <= ceiling
    assert relative_error(kernel, expected) <= 1e-5


def test_random_numbers_go_on_as_before():
    model, inputs = mlp(6, 5, 3).to("cuda"), torch.randn(4, 6, device="cuda")
    model.register_forward_pre_hook(lambda *_: torch.cuda.manual_seed(1))
    torch.cuda.manual_seed(0)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(0)
    tangent_kernel(model, inputs)
    assert torch.equal(torch.rand(3, device="cuda"), expected)
