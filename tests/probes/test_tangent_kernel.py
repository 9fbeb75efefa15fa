import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from kernel_brute_force import TOLERANCE, TREATMENTS, brute_force_kernel, relative_error
from kernel_cases import CASE, Case, disturb
from kernel_graphs import Net
from kernel_networks import mlp
from torch import nn
from turns import in_turns

from tangentscope.probes import kernel_plan, layer_kernels, layer_traces, tangent_kernel
from tangentscope.probes.kernels.engine import block_side
from tangentscope.probes.kernels.gradients import observation

DATA = Path(__file__).parent / "data"
FALLBACK = "per-sample jacobian"


@pytest.mark.parametrize(("case", "outputs", "dtype"), in_turns("the kernel", CASE, TREATMENTS, TOLERANCE))
def test_agrees_with_brute_force(case: Case, outputs: str, dtype: torch.dtype):
    model, inputs = case.make(dtype)
    kernel = tangent_kernel(model, inputs, outputs)
    assert kernel.dtype == dtype
    assert not kernel.requires_grad
    assert torch.equal(kernel, kernel.T)
    assert relative_error(kernel, case.kernel(outputs)) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("case", "outputs", "of"), in_turns("segments", CASE, TREATMENTS, ("own", "between")))
def test_agrees_in_as_many_segments_as_there_are(case: Case, outputs: str, of: str, monkeypatch: pytest.MonkeyPatch):
    """As networks go whose gradients are too many to be collected together."""
    monkeypatch.setattr(block_side, "MERGED_BYTES", 0)
    model, inputs = case.make(torch.float64)
    kernel = tangent_kernel(model, inputs, outputs, others=inputs if of == "between" else None)
    assert relative_error(kernel, case.kernel(outputs)) <= 1e-10


@pytest.mark.parametrize(
    ("file", "build"),
    [
        ("mlp_tanh.npz", lambda: mlp(12, 16, 16, 4)),
        (
            "cnn_relu.npz",
            lambda: nn.Sequential(
                nn.Conv2d(2, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)
            ),
        ),
    ],
)
def test_agrees_with_neural_tangents(file: str, build: Callable[[], nn.Module]):
    with np.load(DATA / file) as stored:
        arrays = {key: torch.from_numpy(stored[key]) for key in stored.files if stored[key].dtype == np.float64}
    model = build().double()
    model.load_state_dict({key.removeprefix("param:"): value for key, value in arrays.items() if "param:" in key})
    inputs, theirs = arrays["inputs"], arrays["kernel_nmab"]  # [N, N, O, O]
    torch.testing.assert_close(model(inputs), arrays["outputs"], rtol=1e-10, atol=1e-12)
    side = len(inputs) * theirs.shape[-1]
    assert relative_error(tangent_kernel(model, inputs), theirs.permute(0, 2, 1, 3).reshape(side, side)) < 1e-10
    assert relative_error(tangent_kernel(model, inputs, "traced"), arrays["kernel_traced"]) < 1e-10


def test_linear_network_is_gram_matrix_times_identity():
    model, X = nn.Linear(5, 3, bias=False).double(), torch.randn(4, 5, dtype=torch.float64)
    expected = torch.kron(X @ X.T, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(tangent_kernel(model, X), expected)


def test_two_layer_network_by_hand():
    # f = vᵀ tanh(W x): Θ[i,j] = Σ_k h_ik h_jk + (x_i·x_j) Σ_k v_k² h'_ik h'_jk
    X = torch.randn(4, 5, dtype=torch.float64)
    model = mlp(5, 7, 1, bias=False).double()
    W, v = model[0].weight.detach(), model[2].weight.detach()[0]
    h = torch.tanh(X @ W.T)
    slope = (1 - h**2) * v
    torch.testing.assert_close(tangent_kernel(model, X), h @ h.T + (X @ X.T) * (slope @ slope.T))


def test_quadratic_form_is_squared_gradient_of_a_plain_backward():
    # ‖Jᵀr‖² = rᵀΘr, with Jᵀr from .backward()
    model, inputs = CASE["resnet"].make(torch.float64)
    model.eval()
    r = torch.randn(3, 3, dtype=torch.float64)
    kernel = tangent_kernel(model, inputs)
    (model(inputs) * r).sum().backward()
    squared = sum(float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None)
    assert squared == pytest.approx(float(r.flatten() @ kernel @ r.flatten()), rel=1e-10)


def test_spectrum_is_that_of_the_dual():
    # 17·3 rows, 31 parameters: JJᵀ and JᵀJ share their non-zero spectrum.
    case = Case("fewer parameters than rows", lambda: mlp(3, 4, 3), (17, 3))
    J = torch.cat(list(case.jacobian().values()), 2).flatten(0, 1)
    assert J.shape == (51, 31)
    ours = torch.linalg.eigvalsh(tangent_kernel(*case.make(torch.float64))).flip(0)
    dual = torch.linalg.eigvalsh(J.T @ J).flip(0)
    torch.testing.assert_close(ours[:31], dual, atol=1e-10 * float(dual[0]), rtol=0)
    assert ours[31:].abs().max() < 1e-12 * ours[0]


def test_parameters_of_two_precisions_give_the_higher_one():
    model = Net(
        lambda net, x: net.precise(net.body(x).tanh().double()), body=nn.Linear(6, 5), precise=nn.Linear(5, 3).double()
    )
    inputs = torch.randn(4, 6)
    kernel = tangent_kernel(model, inputs)
    assert kernel.dtype == torch.float64
    model.run = lambda net, x: net.precise(net.body(x).tanh())
    assert relative_error(kernel, brute_force_kernel(model.double(), inputs.double(), "full")) < 1e-5


def test_width_beyond_one_block_of_everything():
    """More points and rows than any block size that a small case could fit in."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv1d(3, 17, 3), nn.GELU(), nn.GroupNorm(1, 17), nn.Flatten(), nn.Linear(17 * 11, 5))
    disturb(model)
    inputs = torch.randn(37, 3, 13, dtype=torch.float64)
    model.double()
    for outputs in TREATMENTS:
        assert (
            relative_error(tangent_kernel(model, inputs, outputs), brute_force_kernel(model, inputs, outputs)) < 1e-10
        )


def by_fallback(name: str) -> set[str]:
    """The layers of a case that go by per-sample Jacobians."""
    return {layer.name for layer in kernel_plan(*CASE[name].make(torch.float32)).layers if layer.path == FALLBACK}


RULED = [
    "mlp tanh", "in-place relu", "keyword call", "module used twice", "tied weights", "tied layers", "siamese",
    "linear on tokens", "linear on a grid", "conv1d, same", "conv2d", "conv2d, reflect", "conv2d, groups",
    "conv2d, depthwise", "conv used twice", "transposed conv2d, stride", "transposed conv2d, groups", "embedding",
    "embedding with padding, repeated tokens", "language model, tied head", "layer norm over two axes", "rms norm",
    "group norm", "batch norm 1d on sequences", "batch norm 2d", "resnet", "vgg", "u-net", "variational autoencoder",
    "gin", "gine", "layer norm on nodes", "edges, nodes and graphs",
]  # fmt: skip


@pytest.mark.parametrize("name", RULED)
def test_layers_of_ordinary_networks_go_by_their_rule(name: str, caplog: pytest.LogCaptureFixture):
    assert by_fallback(name) == set()
    with caplog.at_level("INFO", logger="tangentscope.probes"):
        tangent_kernel(*CASE[name].make(torch.float32))
    assert caplog.text == ""


OF_ALL_KINDS = [
    "functional reuse", "autoencoder of one matrix", "kept references", "forward of the instance",
    "forward called past the hooks", "tied to a bare parameter", "tied to a recurrent layer", "weight norm",
    "spectral norm", "pruned", "lstm", "lstm of two directions", "gru", "multi-head attention", "embedding bag",
    "one point a call", "sorted rows", "branching on values", "function without a batching rule", "prelu",
]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in OF_ALL_KINDS if name in CASE])
def test_what_a_network_computes_counts_and_not_its_classes(name: str, caplog: pytest.LogCaptureFixture):
    assert by_fallback(name) == set()
    with caplog.at_level("INFO", logger="tangentscope.probes"):
        tangent_kernel(*CASE[name].make(torch.float32))
    assert caplog.text == ""


@pytest.fixture
def no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """All parameters go by per-sample Jacobians."""
    monkeypatch.setattr(observation, "shares_of", lambda *_: [])


@pytest.mark.usefixtures("no_rules")
@pytest.mark.parametrize("outputs", TREATMENTS)
@pytest.mark.parametrize("name", ["mlp tanh", "resnet", "lstm", "gine", "tied layers"])
def test_all_parameters_without_a_rule_go_in_one_pass(name: str, outputs: str, caplog: pytest.LogCaptureFixture):
    model, inputs = CASE[name].make(torch.float64)
    with caplog.at_level("INFO", logger="tangentscope.probes"):
        kernels = layer_kernels(model, inputs, outputs)
    for layer, kernel in kernels.items():
        own = [parameter for parameter in CASE[name].jacobian() if parameter.rpartition(".")[0] == layer]
        assert relative_error(kernel, CASE[name].kernel(outputs, *own)) < 1e-10
    assert relative_error(sum(kernels.values()), CASE[name].kernel(outputs)) < 1e-10
    (told,) = [record.getMessage() for record in caplog.records if "no rule for" in record.getMessage()]
    for parameter in CASE[name].jacobian():
        assert re.search(rf"(?<![\w.]){re.escape(parameter)}(?![\w.])", told), parameter


@pytest.mark.usefixtures("no_rules")
@pytest.mark.parametrize("name", ["resnet", "gine"])
def test_traces_of_layers_without_a_rule(name: str):
    model, inputs = CASE[name].make(torch.float64)
    expected = layer_kernels(model, inputs)
    for layer, trace in layer_traces(model, inputs).items():
        assert trace == pytest.approx(float(expected[layer].trace()), rel=1e-10)


@pytest.mark.usefixtures("no_rules")
@pytest.mark.parametrize(
    ("name", "reason"),
    [("kept references", "does not add up to the ordinary gradient"), ("function without a batching rule", "vmap")],
)
def test_loops_over_samples_where_vmap_cannot(name: str, reason: str, caplog: pytest.LogCaptureFixture):
    model, inputs = CASE[name].make(torch.float64)
    with caplog.at_level("INFO", logger="tangentscope.probes"):
        tangent_kernel(model, inputs)
    assert "by a loop" in caplog.text
    assert reason in caplog.text


@pytest.mark.usefixtures("no_rules")
@pytest.mark.parametrize("name", ["functional reuse", "multi-head attention", "embedding bag", "lstm", "weight norm"])
def test_vmap_serves_ordinary_networks(name: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", logger="tangentscope.probes"):
        tangent_kernel(*CASE[name].make(torch.float32))
    assert "by a loop" not in caplog.text
