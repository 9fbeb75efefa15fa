"""Products of rows: by whichever library, in stripes and parts of any size, they are the same."""

from collections.abc import Iterator

import pytest
import torch
from kernel_brute_force import TOLERANCE, TREATMENTS, brute_force_kernel, relative_error
from kernel_cases import CASE
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tangentscope.probes import tangent_kernel
from tangentscope.probes.kernels.engine import block, contractions, matmul
from tangentscope.probes.kernels.engine.buffer_pool import Spare
from tangentscope.probes.kernels.engine.costs import Blocks, Cost
from tangentscope.probes.kernels.engine.gradient_store import Decision, Store, share_costs
from tangentscope.probes.kernels.engine.matmul import LONG, of_long_rows, of_rows
from tangentscope.probes.kernels.gradients.factors import Dense
from tangentscope.probes.kernels.gradients.parameter_groups import Share
from tangentscope.probes.kernels.gradients.per_sample import Outer

ahead = matmul._onednn_is_ahead.__wrapped__


class Seen(TorchDispatchMode):
    """Names of the operations inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))

    @property
    def onednn(self) -> int:
        return self.names.count("mkldnn::_linear_pointwise")


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch has no oneDNN here")
    monkeypatch.setattr(matmul, "_onednn_is_ahead", lambda: True)
    with Seen() as seen:
        yield seen


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("width", "apart"), [(LONG, False), (LONG + 3, False), (LONG - 1, False), (LONG, True)])
def test_rows_are_multiplied(draws: int, dtype: torch.dtype, width: int, apart: bool, onednn: Seen):
    left, right = torch.randn(draws, 70, width, dtype=dtype), torch.randn(draws, 5, width, dtype=dtype)
    if apart:
        left = left.transpose(1, 2).contiguous().transpose(1, 2)
    expected = torch.einsum("dmw,dnw->dmn", left.double(), right.double())
    assert relative_error(of_rows(left, right), expected) < TOLERANCE[dtype]
    assert not onednn.onednn
    found = of_long_rows(left, right)
    assert (found.dtype, found.shape) == (dtype, (draws, 70, 5))
    assert relative_error(found, expected) < TOLERANCE[dtype]
    assert bool(onednn.onednn) == (draws == 1 and dtype == torch.float32 and width >= LONG and not apart)


@pytest.mark.parametrize("there", [True, False])
def test_onednn_is_asked_where_mkl_is_not_at_home(there: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: there)
    for home in (True, False):
        monkeypatch.setattr(matmul, "mkl_is_at_home", lambda home=home: home)
        assert ahead() == (there and not home)


@pytest.mark.parametrize("d_i", [9, 16])
@pytest.mark.parametrize("d_o", [3, 16])
@pytest.mark.parametrize("given", [True, False])
def test_jacobians_of_outer_products(d_i: int, d_o: int, given: bool):
    """With room for them or without, where thin ones are multiplied as their transpose."""
    A = torch.randn(4, 2, 7, d_i).double()  # [N, G, T, d_i]
    B = torch.randn(4, 5, 2, d_o, 7).double()  # [N, K, G, d_o, T]
    room = torch.empty(4 * 5 * 2 * d_o * d_i).double() if given else None
    expected = torch.einsum("ngti,nkgot->nkgoi", A, B)
    torch.testing.assert_close(Dense(A).jacobian(B, room), expected, rtol=1e-10, atol=1e-12)


NETWORKS = ("conv2d", "conv2d, groups", "conv2d, even channels", "resnet", "vision transformer", "tied weights")


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_by_onednn(name: str, onednn: Seen, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matmul, "LONG", 1)
    kernel = tangent_kernel(*CASE[name].make(torch.float32))
    assert onednn.onednn
    assert relative_error(kernel, CASE[name].kernel("full")) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("outputs", TREATMENTS)
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_in_thin_stripes(name: str, rows: int, outputs: str, monkeypatch: pytest.MonkeyPatch):
    """Of one row, or of as many as do not come out even: stripes end within points."""
    for size in ("STRIPE", "STRIPE_LEAST", "STRIPE_STEP", "ENDING_LEAST"):
        monkeypatch.setattr(contractions, size, rows)
    monkeypatch.setattr(contractions, "GRAM_AT_ONCE", 0)
    model, inputs = CASE[name].make(torch.float64)
    kernel = tangent_kernel(model, inputs, outputs)
    assert torch.equal(kernel, kernel.T)
    assert relative_error(kernel, CASE[name].kernel(outputs)) < TOLERANCE[torch.float64]


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("outputs", TREATMENTS)
@pytest.mark.parametrize("name", [*NETWORKS, "embedding", "embedding with padding, repeated tokens"])
def test_in_parts_of_one_output(name: str, outputs: str, others: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(block, "WORKSPACE", 1)
    monkeypatch.setattr(block, "WORKSPACE_LEAST", 1)
    model, inputs = CASE[name].make(torch.float64)
    kernel = tangent_kernel(model, inputs, outputs, others=inputs if others else None)
    assert relative_error(kernel, CASE[name].kernel(outputs)) < TOLERANCE[torch.float64]


def test_a_part_has_as_many_outputs_as_fit(monkeypatch: pytest.MonkeyPatch):
    """One at a time, of two branches."""
    monkeypatch.setattr(block, "WORKSPACE", 1)
    monkeypatch.setattr(block, "WORKSPACE_LEAST", 1)
    monkeypatch.setattr(block, "decide", in_jacobians)
    seen, own = [], contractions._written
    monkeypatch.setattr(contractions, "_written", lambda A, B, room: seen.append(B.shape[-2]) or own(A, B, room))
    model, inputs = Branches().double(), torch.randn(3, 1, 9, 9).double()
    kernel = tangent_kernel(model, inputs)
    assert set(seen) == {1}
    assert relative_error(kernel, brute_force_kernel(model, inputs, "full")) < TOLERANCE[torch.float64]


def test_parts_of_functions_that_do_not_depend_on_the_layer_are_zero(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Spare, "take", lambda spare, size, like: torch.full((size,), torch.nan))
    outer = Outer(1, 2, 3, 4, factor=lambda: Dense(torch.ones(5, 1, 4, 2)), gradients=lambda gradients: gradients)
    share, decision = (
        Share("", "", ("weight",), ((("node", 0), outer),), numbers=6),
        Decision(JACOBIAN, False, 1, outputs=2),
    )
    store = Store(share, decision, points=5, functions=2, dtype=torch.float32, spare=Spare(torch.float32))
    store.collect(0, 1, torch.ones(5, 1, 3, 4))
    parts = store.complete()
    assert [tuple(part.shape) for part in parts] == [(5, 2, 1, 2, 4), (5, 2, 1, 1, 4)]
    assert all(bool((part[:, 0] == 0).all() and (part[:, 1] == 1).all()) for part in parts)


JACOBIAN = Cost("jacobian", multiply_adds=1, traffic=1)


def in_jacobians(share: Share, blocks: Blocks, budget: float) -> Decision:
    (cost,) = (cost for cost in share_costs(share, blocks) if cost.path == "jacobian")
    return Decision(cost, written=False, point_bytes=1)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 3, 2), nn.Conv2d(1, 3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([branch(images).tanh().flatten(1).sum(1) for branch in (self.left, self.right)], 1)


@pytest.mark.parametrize("rows_first", [False, True])
@pytest.mark.parametrize("chunk", [1, 2, 5])
@pytest.mark.parametrize("symmetric", [True, False])
def test_halves_of_points_of_unequal_size(symmetric: bool, chunk: int, rows_first: bool):
    """Σ_ts (A_it · A_js)(B_iat · B_jbs) pair by pair, whichever of the two points has fewer rows that count."""
    K, d_o, d_i, T = 2, 3, 4, 5

    def side(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        A = torch.randn(1, len(lengths), 1, T, d_i, dtype=torch.float64)
        B = torch.randn(1, len(lengths), K, 1, d_o, T, dtype=torch.float64)
        for point, length in enumerate(lengths):
            B[0, point, ..., length:] = 0
        return A, B.transpose(-1, -2).contiguous().transpose(-1, -2) if rows_first else B

    (A, B), (other_A, other_B) = left, right = side([5, 2, 3]), side([1, 4, 2, 5])
    if symmetric:
        (other_A, other_B) = right = left
    J, other_J = (torch.einsum("nkot,nti->nkoi", b[0, :, :, 0], a[0, :, 0]) for a, b in (left, right))
    expected = torch.einsum("nkoi,mloi->nkml", J, other_J)
    kernel = torch.zeros(1, len(J), K, len(other_J), K, dtype=torch.float64)
    contractions.add_half_apart(kernel, (Dense(A), Dense(other_A)), (B, other_B), symmetric, chunk)
    for i in range(len(J)):
        filled = slice(i if symmetric else 0, None)
        torch.testing.assert_close(kernel[0, i, :, filled], expected[i, :, filled], rtol=1e-12, atol=1e-12)
