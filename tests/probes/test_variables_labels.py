"""Variables of labels and classes against loops and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tangentscope.probes import collective_variables

CLASS_MEANS = ("class_within", "class_between", "class_within_other", "class_between_other")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kernel_of(points: int, rows: int, seed: int = 0, parameters: int = 30) -> Tensor:
    J = normal(points * rows, parameters, seed=seed)
    return J @ J.T


def one_hot(classes: Tensor, outputs: int) -> Tensor:
    return torch.nn.functional.one_hot(classes, outputs).double()


def blocks(points: int, rows: int, classes: list[int], own: float, within: float, between: float) -> Tensor:
    """Seleznova's block structure."""
    kernel = torch.zeros(points, rows, points, rows, dtype=torch.float64)
    for i in range(points):
        for j in range(points):
            value = own if i == j else within if classes[i] == classes[j] else between
            kernel[i, :, j, :] = value * torch.eye(rows)
    return kernel.reshape(points * rows, points * rows)


def cosine(A: np.ndarray, B: np.ndarray) -> float:
    return float((A * B).sum() / math.sqrt((A**2).sum() * (B**2).sum()))


@pytest.mark.parametrize(("outputs", "rows"), [("full", 3), ("traced", 1)])
def test_the_kernel_by_class_has_the_points_of_a_class_side_by_side(outputs: str, rows: int):
    kernel, classes = kernel_of(5, rows), [2, 0, 1, 0, 2]
    found = collective_variables(kernel, ["kernel_by_class"], classes=torch.tensor(classes), points=5, outputs=outputs)
    ordered = [1, 3, 2, 0, 4]
    blocks_of = kernel.reshape(5, rows, 5, rows)
    expected = [[sum(blocks_of[i, a, j, a] for a in range(rows)) / rows for j in ordered] for i in ordered]
    np.testing.assert_allclose(found["kernel_by_class"].reshape(5, 5), np.array(expected))


@pytest.mark.parametrize("outputs", ["full", "traced", "summed"])
def test_label_alignment_against_the_definition(outputs: str):
    rows = 3 if outputs == "full" else 1
    kernel, Y = kernel_of(5, rows), normal(5, 3, seed=1)
    y = Y.reshape(-1, 1) if outputs == "full" else Y
    C = np.kron(np.eye(5) - 1 / 5, np.eye(rows))
    target = (y @ y.T).numpy()
    found = collective_variables(kernel, ("label_alignment", "label_alignment_centred"), labels=Y, outputs=outputs)
    assert found["label_alignment"] == pytest.approx(cosine(kernel.numpy(), target))
    assert found["label_alignment_centred"] == pytest.approx(cosine(C @ kernel.numpy() @ C, C @ target @ C))


def test_label_alignment_of_the_labels_own_kernel_is_one():
    Y = one_hot(torch.tensor([0, 1, 2, 0, 1]), 3)
    y = Y.reshape(-1, 1)
    for kernel, outputs in ((y @ y.T, "full"), (5 * Y @ Y.T, "traced")):
        found = collective_variables(kernel, ("label_alignment", "label_alignment_centred"), labels=Y, outputs=outputs)
        assert found == pytest.approx({"label_alignment": 1, "label_alignment_centred": 1})


def test_centring_forgets_what_all_points_share():
    kernel, Y = kernel_of(5, 2), normal(5, 2, seed=1)
    moved = kernel + 100 * torch.ones(5, 5).double().kron(kernel_of(1, 2, seed=3))
    names = ("label_alignment_centred", "entropy_centred", "largest_share_centred", "label_alignment")
    before = collective_variables(kernel, names, labels=Y)
    after = collective_variables(moved, names, labels=Y + torch.tensor([3.0, -1.0]))
    for name in names[:3]:
        assert after[name] == pytest.approx(before[name], rel=1e-6), name
    assert after["label_alignment"] != pytest.approx(before["label_alignment"], rel=0.1)


def test_labels_that_are_all_alike_have_no_centred_alignment():
    labels = one_hot(torch.zeros(4, dtype=torch.int64), 2)
    found = collective_variables(kernel_of(4, 2), ("label_alignment", "label_alignment_centred"), labels=labels)
    assert 0 < found["label_alignment"] < 1
    assert math.isnan(found["label_alignment_centred"])


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_class_means_against_loops(classes: list[int], rows: int, seed: int):
    points = len(classes)
    kernel = kernel_of(points, rows, seed)
    entries: dict[str, list[float]] = {name: [] for name in CLASS_MEANS}
    for i in range(points):
        for a in range(rows):
            for j in range(points):
                for b in range(rows):
                    if i != j:
                        name = "class_within" if classes[i] == classes[j] else "class_between"
                        entries[name + ("" if a == b else "_other")].append(float(kernel[i * rows + a, j * rows + b]))
    found = collective_variables(kernel, CLASS_MEANS, classes=torch.tensor(classes))
    for name, values in entries.items():
        expected = np.mean(values) if values else math.nan
        assert found[name] == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True), name


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=5), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_class_block_distance_is_to_the_nearest_block_kernel(classes: list[int], rows: int, seed: int):
    points = len(classes)
    kernel = kernel_of(points, rows, seed)
    basis = [blocks(points, rows, classes, *values).flatten().numpy() for values in np.eye(3)]
    A, theta = np.stack(basis, 1), kernel.flatten().numpy()
    nearest = A @ np.linalg.lstsq(A, theta)[0]
    expected = np.linalg.norm(theta - nearest) / np.linalg.norm(theta)
    found = collective_variables(kernel, "class_block_distance", classes=torch.tensor(classes))
    assert found["class_block_distance"] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_class_structure_of_a_block_kernel():
    classes = [0, 1, 1, 0, 2, 2]
    kernel = blocks(6, 3, classes, 5.0, 3.0, 1.0)
    names = (*CLASS_MEANS, "class_block_distance", "local_elasticity")
    found = collective_variables(kernel, names, classes=torch.tensor(classes))
    expected = dict(zip(names, (3, 1, 0, 0, 0, 3 / (3 + 1)), strict=True))
    assert found == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("rows", [1, 3])
def test_local_elasticity_against_loops(rows: int):
    classes = [0, 1, 2, 0, 1, 0]
    kernel = kernel_of(6, rows)
    theta = kernel.reshape(6, rows, 6, rows)
    within, between = [], []
    for i in range(6):
        for j in range(6):
            if i != j:
                moved, own = (sum(float(theta[i, a, k, a]) for a in range(rows)) for k in (j, i))
                (within if classes[i] == classes[j] else between).append(abs(moved) / abs(own))
    w, b = np.mean(within), np.mean(between)
    found = collective_variables(kernel, "local_elasticity", classes=torch.tensor(classes))["local_elasticity"]
    assert found == pytest.approx(w / (w + b))


def test_local_elasticity_of_one_class_is_undefined():
    classes = torch.zeros(4, dtype=torch.int64)
    assert math.isnan(collective_variables(kernel_of(4, 1), "local_elasticity", classes=classes)["local_elasticity"])


def test_entropy_gap_of_classes_that_share_nothing_and_everything():
    A = kernel_of(2, 2)
    classes = torch.tensor([0, 0, 1, 1])
    apart = torch.block_diag(A, 3 * A)
    p = np.array([1, 3]) / 4
    expected = float(-(p * np.log(p)).sum())
    assert collective_variables(apart, "entropy_gap", classes=classes)["entropy_gap"] == pytest.approx(expected)
    alike = torch.ones(2, 2).double().kron(A)
    assert collective_variables(alike, "entropy_gap", classes=classes)["entropy_gap"] == pytest.approx(0, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=7), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_entropy_gap_is_within_its_bounds(classes: list[int], parameters: int, seed: int):
    kernel = kernel_of(len(classes), 2, seed, parameters)
    gap = collective_variables(kernel, "entropy_gap", classes=torch.tensor(classes))["entropy_gap"]
    assert -1e-9 <= gap <= math.log(len(set(classes))) + 1e-9


def left_out(kernel: np.ndarray, Y: np.ndarray, rows: int) -> np.ndarray:
    """Predictions [N, O] of ridge regressions that have really never seen the point."""
    points, outputs = Y.shape
    y = Y.reshape(points * rows, -1)
    ridge = 1e-6 * np.trace(kernel) / len(kernel)
    predicted = np.empty((points, outputs))
    for i in range(points):
        own = np.arange(i * rows, (i + 1) * rows)
        rest = np.setdiff1d(np.arange(len(kernel)), own)
        weights = np.linalg.solve(kernel[np.ix_(rest, rest)] + ridge * np.eye(len(rest)), y[rest])
        predicted[i] = (kernel[np.ix_(own, rest)] @ weights).reshape(outputs)
    return predicted


@pytest.mark.parametrize("outputs", ["full", "traced", "summed"])
@pytest.mark.parametrize(("parameters", "noise"), [(9, 1.5), (60, 4.0)])  # of lower rank than the side, and not
def test_kernel_regression_accuracy_against_leaving_points_out(outputs: str, parameters: int, noise: float):
    rows = 3 if outputs == "full" else 1
    accuracies = set()
    for seed in range(6):
        classes = torch.randint(3, (12,), generator=torch.Generator().manual_seed(seed))
        means = normal(3, 1, parameters, seed=100)
        J = means[classes] + noise * normal(12, rows, parameters, seed=seed)
        kernel, Y = J.flatten(0, 1) @ J.flatten(0, 1).T, one_hot(classes, 3)
        if outputs == "full":  # each logit its own parameters, and some in common
            J = torch.cat([(J[:, :, None, :] * torch.eye(3)[None, :, :, None]).flatten(2), 0.3 * J], 2).flatten(0, 1)
            kernel = J @ J.T
        expected = (left_out(kernel.numpy(), Y.numpy(), rows).argmax(1) == classes.numpy()).mean()
        found = collective_variables(kernel, "kernel_regression_accuracy", labels=Y, classes=classes, outputs=outputs)[
            "kernel_regression_accuracy"
        ]
        assert found == expected
        accuracies.add(found)
    assert len(accuracies) > 2  # or nothing was tested


def test_kernel_regression_accuracy_by_hand():
    classes = torch.tensor([0, 0, 1, 1])
    given = {"labels": one_hot(classes, 2), "classes": classes, "outputs": "traced"}
    name = "kernel_regression_accuracy"
    alike = blocks(4, 1, classes.tolist(), 2.0, 1.0, 0.0)
    assert collective_variables(alike, name, **given)[name] == 1
    assert collective_variables(blocks(4, 1, classes.tolist(), 2.0, 0.0, 1.0), name, **given)[name] == 0
    assert collective_variables(torch.eye(4), name, **given)[name] == 0  # knows nothing of others: ties are wrong
    Q = torch.linalg.qr(normal(30, 30)).Q
    classes = torch.arange(30) % 3
    found = collective_variables(Q @ Q.T, name, labels=one_hot(classes, 3), classes=classes, outputs="traced")
    assert found[name] == 0  # rounding breaks no tie
