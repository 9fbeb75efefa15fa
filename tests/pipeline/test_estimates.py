"""What a study is said to cost. Whether that comes true is a matter of real runs; here it is added up."""

import pytest
import torch
from study_on_disk import small_study

from tangentscope.pipeline.driver import costs
from tangentscope.pipeline.driver.costs import Rates, estimate, side
from tangentscope.pipeline.study.runs import Run
from tangentscope.pipeline.system import formatting


@pytest.fixture(autouse=True)
def known_rates(monkeypatch: pytest.MonkeyPatch):
    """A host on which every step takes a second, an evaluation 10, a snapshot 100 and all probes of one 1000."""
    monkeypatch.setattr(costs, "_SECONDS", 0.0)
    monkeypatch.setattr(costs, "_rates_of_training", lambda run: (1.0, 10.0, 100.0))
    monkeypatch.setattr(costs, "_rate_of_probes", lambda run: 1000.0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_costs_are_added_up_over_runs_and_shared_by_pools():
    study, runs = small_study("resources={train: {groups: 2}, probe: {actors: 4}}")
    cost = estimate(study, runs, start=3.0)
    one_run = 4 * 1 + 4 * 10 + 4 * 100
    assert (cost.training, cost.probing) == (pytest.approx(2 * one_run), pytest.approx(2 * 4 * 1000))
    left = 2 * 4 * 1000 - 4 * one_run  # to be measured when all is trained, by two more probers in the workers' place
    assert cost.wall == pytest.approx(cost.start_and_end + one_run + left / (4 + 2))
    assert cost.start_and_end == pytest.approx(estimate(study, runs, start=1.0).start_and_end * 3)
    assert cost.trainer_memory >= cost.snapshot_bytes > 0


def test_what_is_measured_while_others_train_takes_no_time_of_its_own():
    study, runs = small_study("resources={probe: {actors: 40}}")
    cost = estimate(study, runs, start=3.0)
    assert cost.wall == pytest.approx(cost.start_and_end + cost.training)


@pytest.mark.parametrize(("keep", "count"), [("all", 4), ("ends", 2), ("none", 0)])
def test_bytes_kept(keep: str, count: int):
    study, runs = small_study(f"probes.keep={keep}")
    assert estimate(study, runs, start=0.0).snapshot_bytes == count * sum(run.snapshot_bytes for run in runs)


def test_a_profile_takes_the_room_of_a_spectrum():
    one, two = (
        estimate(*small_study(f"probes.variables=[trace, {name}]"), start=0.0).table_bytes
        for name in ("entropy", "mode_coupling")
    )
    assert two - one == 2 * 4 * 2 * 8 * 40  # runs, snapshots, probes, bytes, side


@pytest.mark.parametrize(("outputs", "expected"), [("full", 40), ("traced", 4), ("summed", 4)])
def test_side(outputs: str, expected: int):
    run = small_study(f"probes.kernel.outputs={outputs}")[1][0]
    assert side(run, run.probes[0]) == expected


def test_between_calibrated_sizes_lies_a_power_law():
    rates = [Rates(100, 1.0, 1.0, 1.0, 1.0), Rates(10_000, 100.0, 10.0, 1.0, 0.0)]
    found = costs._interpolate(rates, 1000)
    assert (found.step, found.evaluation, found.snapshot) == pytest.approx((10.0, 10**0.5, 1.0))
    assert costs._interpolate(rates, 10).step == pytest.approx(1.0)


def test_a_few_networks_stand_for_many(monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []

    def trained(run: Run) -> tuple[float, float, float]:
        seen.append(run.model.width)  # pyright: ignore[reportAttributeAccessIssue]
        return 1.0, 1.0, 1.0

    monkeypatch.setattr(costs, "_rates_of_training", trained)
    study, runs = small_study(f"grid.model.width={list(range(1, 31))}", "seeds=3")
    estimate(study, runs, start=0.0)
    assert len(seen) <= 5
    assert {1, 30} <= set(seen), "the smallest and the largest"


def test_the_real_calibration_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    monkeypatch.setattr(costs, "_SECONDS", 1e-9)
    variables = "probes.variables=[trace, entropy_gap, sharpness, kernel_distance, kernel_velocity, mode_coupling]"
    study, runs = small_study("optimiser={name: sgd, lr: 0.1}", variables)
    cost = estimate(study, runs, start=0.0)
    assert cost.training > 0
    assert cost.probing > 0
    assert cost.wall == pytest.approx(max(cost.training, (cost.training + cost.probing) / 2))


def test_what_takes_long_is_measured_in_part(monkeypatch: pytest.MonkeyPatch):
    done: list[int] = []
    monkeypatch.setattr(costs, "_SECONDS", 0.5)
    monkeypatch.setattr(costs, "_seconds", lambda action: action() or done[-1] / 100)  # a hundred a second
    assert costs._seconds_of_all(done.append, 200) == pytest.approx(2.0)
    assert done == [1, 4, 16, 64]
    assert costs._seconds_of_all(done.append, 10, least=64) == pytest.approx(0.1)
    assert costs._seconds_of_all(done.append, 20) == pytest.approx(0.2)
    assert done[4:] == [10, 1, 4, 16, 20]


def test_a_long_call_is_made_once(monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    monkeypatch.setattr(costs, "_timed", lambda action: action() or 3.0)
    assert costs._seconds(lambda: calls.append(1)) == 3.0
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e6, "2.5 MB"), (3e9, "3 GB"), (4e12, "4 TB")]
)
def test_bytes_for_people(count: float, text: str):
    assert formatting.human(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.25, "1.2 s"), (80, "80 s"), (600, "10 min"), (7140, "119 min"), (9000, "2.5 h")]
)
def test_time_for_people(seconds: float, text: str):
    assert formatting.clock(seconds) == text
