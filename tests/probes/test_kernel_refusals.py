"""What has no kernel: broken networks show it, wrong arguments are told."""

from collections.abc import Callable

import pytest
import torch
from kernel_cases import CASES, TREATMENTS, mlp
from torch import Tensor, nn

from probes import tangent_kernel
from probes.kernels import observe


@pytest.mark.parametrize("name", ["mlp tanh", "conv, group norm"])
def test_broken_networks_give_a_kernel_that_shows_it(name: str):
    model, inputs = next(case for case in CASES if case.name == name).make(torch.float32)
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


class Wrapped(nn.Module):
    def __init__(self, change: Callable[[Tensor], object]):
        super().__init__()
        self.layer, self.change = nn.Linear(6, 3), change

    def forward(self, x: Tensor) -> object:
        return self.change(self.layer(x))


GOOD = torch.zeros(4, 6)


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
        (Wrapped(lambda f: f.T), GOOD, "full", ValueError, r"shape \[3, 4\] for 4 inputs"),
        (Wrapped(lambda f: f.sum()), GOOD, "full", ValueError, r"shape \[\] for 4 inputs"),
        (Wrapped(lambda f: (f, f)), GOOD, "full", TypeError, "returned a tuple, expected a floating-point tensor"),
        (Wrapped(lambda f: f.argmax(1)), GOOD, "full", TypeError, "returned a torch.int64 tensor"),
        (Wrapped(lambda f: f.detach()), GOOD, "full", ValueError, "do not depend on any trainable parameter.*detach"),
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
        (Wrapped(lambda f: f - f.mean(0)), torch.randn(4, 6), "full", ValueError, "change with the other points"),
        (Wrapped(lambda f: f.cumsum(0)), torch.randn(4, 6), "full", ValueError, "change with the other points"),
        (Wrapped(lambda f: f + torch.rand_like(f)), GOOD, "full", ValueError, "eval mode deterministic"),
        (
            nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, track_running_stats=False)),
            GOOD,
            "full",
            ValueError,
            "BatchNorm1d '1' has no running statistics.*track_running_stats=True",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(model: nn.Module, inputs: Tensor, outputs: str, error: type[Exception], message: str):
    model.train()
    with pytest.raises(error, match=message) as caught:
        tangent_kernel(model, inputs, outputs)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert model.training


def test_memory_bound_must_be_positive():
    with pytest.raises(ValueError, match="memory_bytes=0 is not positive"):
        tangent_kernel(nn.Linear(6, 3), GOOD, memory_bytes=0)


def test_an_edge_is_needed_for_gradients():
    with torch.no_grad():
        layer = nn.Linear(6, 3)
        outputs, calls = observe.watch(layer, [layer], GOOD)
    with pytest.raises(ValueError, match="outside the autograd graph"):
        observe.gradients_at(outputs, calls[layer])
