"""Networks that nobody here wrote: what a case is, its brute-force kernel, and all that is compared with it."""

import functools
import re
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from kernel_brute_force import TOLERANCE, TREATMENTS, Inputs, block, cast, contract, count, take
from torch import Tensor, nn
from turns import turn

from tangentscope.probes import draw_kernels, layer_kernels, layer_traces, tangent_kernel


@dataclass(frozen=True)
class Wild:
    """A network as people write them.

    inputs: the shape of normal ones, or what draws them. finish: what is done to the network once it has its
    precision, such as copying it. around: what is changed outside of the network while it is used. treatments: those
    in which it has a kernel.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[int, ...] | Callable[[], Inputs]
    finish: Callable[[nn.Module], nn.Module] = lambda model: model
    around: Callable[[], AbstractContextManager] = nullcontext
    treatments: tuple[str, ...] = TREATMENTS
    once: bool = False
    slow: bool = False

    def make(self, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        """A new network at every call, always with the same numbers: those of float32."""
        torch.manual_seed(1)
        model = self.build()
        inputs = self.inputs() if callable(self.inputs) else torch.randn(self.inputs)
        disturb(model)
        return self.finish(model.to(dtype)), cast(inputs, dtype)

    @functools.cache  # noqa: B019  cases live as long as the tests
    def jacobian(self) -> dict[str, Tensor]:
        """The definition in float64: by parameter, ∂f_a(x_n)/∂θ as [N, O, its size].

        One point alone and one output at a time, each point by a network of its own, since networks may keep things.
        """
        points = count(self.make(torch.float64)[1])
        rows: dict[str, list[Tensor]] = defaultdict(list)
        for n in range(points):
            parameters, values = self.values(n)
            for a in range(len(values)):
                if self.once and a:
                    parameters, values = self.values(n)
                found = torch.autograd.grad(
                    values[a],
                    list(parameters.values()),
                    retain_graph=not self.once,
                    allow_unused=True,
                    materialize_grads=True,
                )
                for name, gradient in zip(parameters, found, strict=True):
                    rows[name].append((gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1))
        return {name: torch.stack(row).double().unflatten(0, (points, -1)) for name, row in rows.items()}

    def values(self, point: int) -> tuple[dict[str, Tensor], Tensor]:
        """The trainable parameters of a new network, and its outputs at one point."""
        model, inputs = self.make(torch.float64)
        parameters = {name: value for name, value in model.eval().named_parameters() if value.requires_grad}
        return parameters, model(take(inputs, [point])).reshape(-1)

    def kernel(self, outputs: str, layer: str | None = None) -> Tensor:
        """The brute-force kernel of the parameters of one layer, or of them all."""
        chosen = [J for name, J in self.jacobian().items() if layer is None or name.rpartition(".")[0] == layer]
        return contract(torch.cat(chosen, 2), outputs)

    def layers(self) -> list[str]:
        return list(dict.fromkeys(name.rpartition(".")[0] for name in self.jacobian()))


def disturb(model: nn.Module) -> None:
    """Leave no parameter at 0 or 1, where a mistake could hide, nor any running statistic."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.5)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)


# What is compared with brute force: each takes a case, an output treatment and a precision.


def check_kernel(case: Wild, outputs: str, dtype: torch.dtype) -> None:
    model, inputs = case.make(dtype)
    before = dict(model.named_parameters(remove_duplicate=False))
    kernel = tangent_kernel(model, inputs, outputs)
    after = dict(model.named_parameters(remove_duplicate=False))
    assert all(before[name] is value for name, value in after.items()), "the network has other parameters now"
    assert kernel.dtype == dtype
    assert not kernel.requires_grad
    assert torch.equal(kernel, kernel.T) or not kernel.isfinite().all()
    near(case, kernel, case.kernel(outputs), outputs, "kernel")


def check_layers(case: Wild, outputs: str, dtype: torch.dtype) -> None:
    found = layer_kernels(*case.make(dtype), outputs)
    assert sorted(found) == sorted(case.layers())
    for layer in case.layers():
        near(case, found[layer], case.kernel(outputs, layer), outputs, f"share of {layer!r}")
    near(case, sum(found.values()), case.kernel(outputs), outputs, "sum of the shares")


def check_traces(case: Wild, outputs: str, dtype: torch.dtype) -> None:
    traces = layer_traces(*case.make(dtype), outputs)
    points = len(case.kernel(outputs))
    for layer in case.layers():
        expected = case.kernel(outputs, layer).trace() / points
        near(case, torch.tensor(traces[layer] / points, dtype=dtype), expected, outputs, f"trace of {layer!r}")


def check_between(case: Wild, outputs: str, dtype: torch.dtype) -> None:
    """Of batches that overlap and mostly differ in size."""
    model, inputs = case.make(dtype)
    points = count(inputs)
    first, second = range(-(-2 * points // 3)), range(points // 2, points)
    kernel = tangent_kernel(model, take(inputs, first), outputs, others=take(inputs, second))
    near(case, kernel, block(case.kernel(outputs), points, first, second), outputs, "kernel between two batches")


def check_draws(case: Wild, outputs: str, dtype: torch.dtype) -> None:
    """Of draws that share points, and hold some twice."""
    model, inputs = case.make(dtype)
    points = count(inputs)
    draws = torch.tensor([[0, points - 1], [points // 2, 0], [points - 1, points - 1]])
    for draw, kernel in zip(draws.tolist(), draw_kernels(model, inputs, draws, outputs), strict=True):
        near(case, kernel, block(case.kernel(outputs), points, draw, draw), outputs, f"draw of {draw}")


def near(case: Wild, found: Tensor, expected: Tensor, outputs: str, what: str) -> None:
    """Equal to within rounding of the largest entry of the kernel; ``found`` has the precision that counts."""
    assert found.shape == expected.shape, what
    error = float((found.double() - expected).abs().max() / case.kernel(outputs).abs().max())
    assert error <= TOLERANCE[found.dtype], f"{what}, {outputs}, {found.dtype}: {error:.1e} of the largest entry off"


def right_or_refused(case: Wild, model: nn.Module, inputs: Inputs, outputs: str, reason: str) -> None:
    """A kernel that is not the brute-force one would be wrong without a word."""
    refused = None
    try:
        kernel = tangent_kernel(model, inputs, outputs)
    except ValueError as error:
        refused = str(error)
    if refused is None:
        near(case, kernel, case.kernel(outputs), outputs, "kernel")
    else:
        assert re.search(reason, refused), refused


CHECKS = (check_kernel, check_layers, check_traces, check_between, check_draws)


def check_some(case: Wild) -> None:
    """The kernel in one treatment and precision, and one other check in another treatment; its name says which."""
    first = turn(f"treatment of {case.name}", len(case.treatments))
    second = (first + 1) % len(case.treatments)
    check_kernel(case, case.treatments[first], [*TOLERANCE][turn(f"precision of {case.name}", 2)])
    CHECKS[1 + turn(f"check of {case.name}", len(CHECKS) - 1)](case, case.treatments[second], torch.float64)


def check_all(case: Wild) -> None:
    for outputs in case.treatments:
        for dtype in TOLERANCE:
            for check in CHECKS:
                check(case, outputs, dtype)
