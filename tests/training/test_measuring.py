"""Measurements of snapshots of a really trained network against a float64 computation written down here."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from trained_study import VARIABLES, Finished, finish

from tangentscope import models
from tangentscope.models import Model
from tangentscope.pipeline.probing.ledger import Job
from tangentscope.pipeline.probing.measurer import Measurer
from tangentscope.pipeline.store import layout, run_files, tables
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.snapshots import read_snapshot
from tangentscope.pipeline.system.errors import UserError
from tangentscope.probes import VARIABLES as VARIABLES_OF_ALL
from tangentscope.probes import draw_indices
from tangentscope.tasks import Mnist


@pytest.fixture(scope="module")
def finished() -> dict[tuple[str, int], Finished]:
    """The studies that were trained for earlier tests."""
    return {}


@pytest.fixture
def study_of(
    finished: dict[tuple[str, int], Finished], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Finished]:
    """A study for a way to take the kernel; from then on, nobody can load the task's data."""

    def refuse(self: Mnist, data_dir: Path | None = None) -> None:
        pytest.fail("a probe loaded the task's data")

    def make(outputs: str, draws: int) -> Finished:
        if (outputs, draws) not in finished:
            kernel = {"outputs": outputs, "draws": draws, "size": 6}
            model = {"name": "mlp", "depth": 2, "activation": "tanh"}
            finished[outputs, draws] = finish(tmp_path_factory.mktemp("tiny"), model, kernel, [5, 8])
        monkeypatch.setattr(Mnist, "load", refuse)
        return finished[outputs, draws]

    return make


def jacobian(state: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """[points, outputs, parameters] in float64, one backward pass for each point and output."""
    leaves = {name: tensor.double().requires_grad_() for name, tensor in state.items()}
    rows = []
    for image in inputs.double():
        hidden = torch.tanh(leaves["linear_1.weight"] @ image.reshape(-1) + leaves["linear_1.bias"])
        logits = leaves["linear_2.weight"] @ hidden + leaves["linear_2.bias"]
        gradients = [torch.autograd.grad(logit, list(leaves.values()), retain_graph=True) for logit in logits]
        rows.append(torch.stack([torch.cat([part.reshape(-1) for part in gradient]) for gradient in gradients]))
    return torch.stack(rows)


def by_hand(state: dict[str, Tensor], inputs: Tensor, outputs: str) -> tuple[dict[str, float], np.ndarray]:
    """Trace, entropy and effective rank, and the eigenvalues in descending order."""
    J = jacobian(state, inputs)
    kernel = {
        "full": lambda: J.reshape(-1, J.shape[2]) @ J.reshape(-1, J.shape[2]).T,
        "traced": lambda: sum(J[:, a] @ J[:, a].T for a in range(10)) / 10,
        "summed": lambda: J.sum(1) @ J.sum(1).T / 10,
    }[outputs]()
    values = np.clip(np.linalg.eigvalsh(kernel.numpy()), 0, None)
    p = values[values > 1e-12 * values.max()] / values.sum()
    entropy = -float((p * np.log(p)).sum())
    found = {"trace": float(kernel.diagonal().sum()), "entropy": entropy, "effective_rank": math.exp(entropy)}
    return found, values[::-1]


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("outputs", ["full", "traced", "summed"])
def test_values_are_those_of_a_float64_computation(outputs: str, draws: int, study_of) -> None:
    study = study_of(outputs, draws)
    measurer = Measurer(study.storage, study.plan)
    for k, run in enumerate(study.runs):
        job = study.job(k)
        found = measurer.measure(job)
        rows, spectra = found["measurements"], found["spectra"]
        state, _ = read_snapshot(study.storage, run.id, job.name)
        for probe in run.probes:
            stored = safetensors.torch.load(study.storage.read(layout.points(probe.id)))
            split = getattr(run.data, probe.split)
            places = draw_indices(len(split), draws, 6, seed=0)
            assert stored["indices"][stored["draws"]].tolist() == places.tolist()
            drawn, eigenvalues = zip(*[by_hand(state, split.inputs[draw], outputs) for draw in places], strict=True)
            for name in VARIABLES:
                [row] = [row for row in rows if row["probe"] == probe.id and row["variable"] == name]
                values = [draw[name] for draw in drawn]
                mean = sum(values) / draws
                assert row["draw_values"] == pytest.approx(values, rel=1e-4)
                assert row["value"] == pytest.approx(mean, rel=1e-4)
                if draws == 1:
                    assert math.isnan(row["stderr"])
                else:
                    center = sum(row["draw_values"]) / draws
                    deviations = [value - center for value in row["draw_values"]]
                    spread = math.sqrt(sum(d * d for d in deviations) / (draws - 1) / draws)
                    assert row["stderr"] == pytest.approx(spread, rel=1e-9)
            of_probe = sorted((row for row in spectra if row["probe"] == probe.id), key=lambda row: row["draw"])
            assert [row["draw"] for row in of_probe] == list(range(draws))
            for row, expected in zip(of_probe, eigenvalues, strict=True):
                np.testing.assert_allclose(row["eigenvalues"], expected, rtol=1e-3, atol=1e-5 * expected[0])


def test_rows_say_what_was_measured(study_of) -> None:
    study = study_of("traced", 3)
    run, job = study.runs[0], study.job(snapshot=1)
    by_table = Measurer(study.storage, study.plan).measure(job)
    rows = by_table["measurements"]
    assert len(rows) == 2 * 3
    assert by_table["profiles"] == []
    probes = {probe.id: probe.split for probe in run.probes}
    for table, found in by_table.items():
        if not found:
            continue
        assert {frozenset(row) for row in found} == {frozenset(tables.SCHEMAS[table].names) - {"launch"}}  # the hub's
        kept = pa.Table.from_pylist(found, schema=tables.SCHEMAS[table]).to_pylist()
        for row, back in zip(found, kept, strict=True):  # nothing was bent to fit the column's type
            assert all(back[k] == v and type(back[k]) is type(v) for k, v in row.items() if v == v)
            assert (row["run"], row["attempt"], row["step"]) == (run.id, 1, 3)
            assert row["epoch"] == 1.0
            assert row["checksum"] == job.name.checksum
            assert (row["split"], row["outputs"]) == (probes[row["probe"]], "traced")
    for row in rows:
        assert (row["state"], row["cause"], row["length"], row["compared_with"]) == ("measured", None, None, None)
        assert row["version"] == study.plan.versions[row["variable"]]
        assert (row["draws"], row["size"]) == (3, 6)
        assert row["lag_seconds"] >= 0
        assert row["probe_seconds"] > 0
        assert row["peak_memory"] > 1e6
        assert 0 <= row["clipped_mass"] < 1e-3
    _, metadata = read_snapshot(study.storage, run.id, job.name)
    taken_at = float(metadata["taken_at"])
    assert all(row["recorded_at"] - row["lag_seconds"] == pytest.approx(taken_at, abs=1e-3) for row in rows)


@pytest.mark.parametrize("name", ["entropy", "eigenvalues_leading"])
def test_a_variable_that_cannot_be_computed_fails_alone(study_of, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(kernel: Tensor) -> float:
        raise ArithmeticError("no luck")

    study = study_of("traced", 3)
    probe = study.runs[0].probes[0].id
    job = study.job()
    job = Job(job.run, job.name, {probe: ("trace", "entropy", "eigenvalues_leading")})
    expected = {row["variable"]: row for row in Measurer(study.storage, study.plan).measure(job)["measurements"]}
    monkeypatch.setitem(VARIABLES_OF_ALL, name, dataclasses.replace(VARIABLES_OF_ALL[name], compute=fail))
    by_table = Measurer(study.storage, study.plan).measure(job)
    rows = {row["variable"]: row for row in by_table["measurements"]}
    failed = rows.pop(name)
    assert (failed["state"], failed["cause"], failed["length"]) == ("failed", "ArithmeticError: no luck", None)
    assert math.isnan(failed["value"])
    assert {row["variable"] for row in by_table["profiles"]} == {"eigenvalues_leading"} - {name}
    assert pa.Table.from_pylist([failed], schema=tables.SCHEMAS["measurements"]).to_pylist()[0]["cause"]
    for other, row in rows.items():
        for column in ("state", "cause", "value", "stderr", "draw_values", "length"):
            assert row[column] == expected[other][column], (other, column)


def test_only_what_is_wanted_is_measured(study_of) -> None:
    study = study_of("traced", 3)
    whole = study.job()
    probe = study.runs[0].probes[1].id
    found = Measurer(study.storage, study.plan).measure(Job(whole.run, whole.name, {probe: ("entropy",)}))
    assert [(row["probe"], row["variable"]) for row in found["measurements"]] == [(probe, "entropy")]
    assert {row["probe"] for row in found["spectra"]} == {probe}


def values(measurer: Measurer, job: Job) -> list[float]:
    return [row["value"] for row in measurer.measure(job)["measurements"]]


def test_one_measurer_for_several_runs_and_snapshots_mixes_nothing_up(study_of) -> None:
    study = study_of("traced", 3)
    shared = Measurer(study.storage, study.plan)
    jobs = [study.job(run, snapshot) for snapshot in (0, 2, 1) for run in (0, 1)]
    found = [values(shared, job) for job in jobs]
    assert found == [values(Measurer(study.storage, study.plan), job) for job in jobs]
    assert len({tuple(values) for values in found}) == 6


def test_a_damaged_or_freed_snapshot_is_not_measured(study_of) -> None:
    study = study_of("summed", 1)
    job = study.job()
    measurer = Measurer(study.storage, study.plan)
    file = run_files.snapshot(job.run, job.name)
    good = study.storage.read(file)
    study.storage.write(file, good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match="checksum"):
        measurer.measure(job)
    study.storage.write(file, good)
    assert measurer.measure(job)["measurements"]
    with pytest.raises(FileNotFoundError):
        measurer.measure(Job(job.run, SnapshotName(99, 1, job.name.checksum), job.wanted))


class Normed(Model, frozen=True):
    """A network with batch statistics, a part of its own named as wrappers name theirs."""

    name: Literal["normed"] = "normed"
    width: int
    version: ClassVar[int] = 1

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), self.width))
        network.add_module("module", nn.BatchNorm1d(self.width))
        network.add_module("head", nn.Linear(self.width, outputs))
        return network


def test_a_snapshot_of_another_architecture_is_refused_in_a_line(study_of) -> None:
    study = study_of("full", 1)
    measurer, run, name = Measurer(study.storage, study.plan), study.plan.runs[0], study.job().name
    measurer.subject = SimpleNamespace(network=lambda run: nn.Linear(3, 2))  # pyright: ignore
    with pytest.raises(UserError, match=r"a snapshot of another architecture \(6 tensors differ") as caught:
        measurer.load(run, name)
    assert "\n" not in str(caught.value)


def test_a_network_is_loaded_with_its_buffers_and_in_eval_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "normed", Normed)
    study = finish(tmp_path, {"name": "normed"}, {"outputs": "summed", "size": 4}, [6])
    record, job = study.plan.runs[0], study.job()
    module, metadata = Measurer(study.storage, study.plan).load(record, job.name)
    assert not any(part.training for part in module.modules())
    assert module.get_buffer("module.num_batches_tracked") == job.name.step == int(metadata["step"])
    assert module.get_buffer("module.running_mean").abs().max() > 0
    rows = Measurer(study.storage, study.plan).measure(job)["measurements"]
    assert all(math.isfinite(row["value"]) for row in rows)
