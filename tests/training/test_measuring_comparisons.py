"""Measurements that need labels, the loss or earlier networks, against the library alone."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from torch import nn
from trained_study import Finished, finish

from tangentscope.pipeline.probing.ledger import Job, Ledger
from tangentscope.pipeline.probing.measurer import Measurer
from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.snapshots import read_snapshot
from tangentscope.probes import draw_indices, measure

GIVEN = (
    "label_alignment", "entropy_gap", "kinetic_energy", "sharpness", "kernel_distance", "kernel_velocity",
    "misalignment_vectors_step", "projection_factors",
)  # fmt: skip


@pytest.fixture(scope="module")
def comparing(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A study that asks for whatever else there is to be given with a kernel."""
    kernel = {"outputs": "full", "draws": 3, "size": 6}
    model = {"name": "mlp", "depth": 2, "activation": "tanh"}
    return finish(tmp_path_factory.mktemp("comparing"), model, kernel, [5, 8], GIVEN)


def jobs_of(study: Finished, run: int) -> list[Job]:
    """What the ledger makes of all snapshots of a run."""
    ledger, identity = Ledger(study.plan), study.runs[run].id
    for name in run_files.current_snapshots(study.storage, identity):
        ledger.notice(Notice(identity, name))
    return list(iter(lambda: ledger.take("one"), None))


def test_labels_residuals_and_earlier_networks_are_those_of_the_run(comparing: Finished) -> None:
    """As computed with the library alone, on the networks and the data that the pipeline was given."""
    measurer = Measurer(comparing.storage, comparing.plan)
    for k, run in enumerate(comparing.runs):
        networks: dict[int, nn.Module] = {}
        jobs = jobs_of(comparing, k)
        for job in jobs:
            networks[job.name.step] = run.model.build(run.data.input_shape, run.data.outputs)
            networks[job.name.step].load_state_dict(read_snapshot(comparing.storage, run.id, job.name)[0])
        assert list(networks) == run.schedule == [0, 3, 6]
        for job, previous in zip(jobs, [None, 0, 3], strict=True):
            found = measurer.measure(job)
            for probe in run.probes:
                split = getattr(run.data, probe.split)
                expected = measure(
                    networks[job.name.step],
                    split.inputs,
                    draw_indices(len(split), 3, 6, seed=0),
                    "full",
                    GIVEN,
                    targets=split.targets,
                    loss=run.task.loss,
                    initial=networks[0],
                    previous=None if previous is None else networks[previous],
                    step=job.name.step,
                    previous_step=previous,
                )
                rows = {row["variable"]: row for row in found["measurements"] if row["probe"] == probe.id}
                assert set(rows) == set(GIVEN)
                for name, numbers in expected.values.items():
                    np.testing.assert_allclose(rows[name]["draw_values"], numbers, rtol=1e-6, err_msg=name)
                    assert rows[name]["length"] is None
                for name, profile in expected.profiles.items():
                    kept = [row for row in found["profiles"] if (row["probe"], row["variable"]) == (probe.id, name)]
                    assert [row["draw"] for row in kept] == [0, 1, 2]
                    np.testing.assert_allclose([row["values"] for row in kept], profile, rtol=1e-6, atol=1e-9)
                    assert (rows[name]["value"], rows[name]["length"]) == (None, profile.shape[1])


def test_comparisons_say_with_what_and_have_no_number_where_there_is_nothing(comparing: Finished) -> None:
    measurer = Measurer(comparing.storage, comparing.plan)
    jobs = jobs_of(comparing, 0)
    at = {job.name.step: f"{job.name.step}-{job.name.checksum}" for job in jobs}
    for job, previous in zip(jobs, ["nothing", at[0], at[3]], strict=True):
        rows = {row["variable"]: row for row in measurer.measure(job)["measurements"] if row["split"] == "test"}
        assert rows["kernel_velocity"]["compared_with"] == previous
        assert math.isnan(rows["kernel_velocity"]["value"]) == (previous == "nothing")
        assert rows["kernel_distance"]["compared_with"] == at[0]
        assert (rows["kernel_distance"]["value"] == pytest.approx(0, abs=1e-6)) == (job.name.step == 0)
        assert rows["label_alignment"]["compared_with"] is None
        assert {row["state"] for row in rows.values()} == {"measured"}


def test_rows_of_profiles_fit_their_tables(comparing: Finished) -> None:
    found = Measurer(comparing.storage, comparing.plan).measure(jobs_of(comparing, 0)[1])
    for table, rows in found.items():
        assert {frozenset(row) for row in rows} == {frozenset(tables.SCHEMAS[table].names) - {"launch"}}  # the hub's
        pa.Table.from_pylist(rows, schema=tables.SCHEMAS[table])


def test_measuring_again_gives_the_same_bits_whoever_measures(comparing: Finished) -> None:
    whole = [numbers_of(Measurer(comparing.storage, comparing.plan), job) for job in jobs_of(comparing, 1)]
    shared = Measurer(comparing.storage, comparing.plan)
    shared.measure(jobs_of(comparing, 0)[-1])
    assert [numbers_of(shared, job) for job in reversed(jobs_of(comparing, 1))][::-1] == whole
    assert len(set(whole)) == 3


def numbers_of(measurer: Measurer, job: Job) -> str:
    found = measurer.measure(job)
    numbers = [row["draw_values"] for row in found["measurements"]] + [row["values"] for row in found["profiles"]]
    return repr(numbers)


def test_a_kernel_takes_the_memory_it_is_given(comparing: Finished) -> None:
    measurer = Measurer(comparing.storage, comparing.plan, memory_bytes=1000)
    with pytest.raises(ValueError, match="memory_bytes=1000 is too little"):
        measurer.measure(jobs_of(comparing, 0)[0])


def test_values_do_not_hang_on_what_is_measured_with_them_or_before_them(comparing: Finished) -> None:
    """Bit by bit: after deaths, probers get other jobs, in another order."""

    def values(measurer: Measurer, job: Job) -> dict[tuple, bytes]:
        rows = measurer.measure(job)
        numbers = {
            (row["step"], row["probe"], row["variable"]): np.array(row["draw_values"] or [], dtype=float).tobytes()
            for row in rows["measurements"]
        }
        return numbers | {
            (row["step"], row["probe"], row["variable"], row["draw"]): np.array(row["values"]).tobytes()
            for row in rows["profiles"]
        }

    one, other = (Measurer(comparing.storage, comparing.plan) for _ in range(2))
    together: dict[tuple, bytes] = {}
    for job in jobs_of(comparing, 0):
        together |= values(one, job)
    apart: dict[tuple, bytes] = {}
    for job in reversed(jobs_of(comparing, 0)):
        for probe, variables in reversed(job.wanted.items()):
            for variable in reversed(variables):
                apart |= values(other, replace(job, wanted={probe: (variable,)}))
    assert apart == together
