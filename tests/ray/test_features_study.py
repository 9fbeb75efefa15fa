"""Features of a study through every real component: measured exactly once, on the snapshots that kernels are of."""

import pandas as pd
import pytest
import torch
from small_study import keys, planned_keys

from tangentscope import pipeline
from tangentscope.models import MLP
from tangentscope.pipeline.probing.points import HELD_OUT
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.points import read_points
from tangentscope.pipeline.store.snapshots import read_snapshot

pytestmark = pytest.mark.ray

VARIABLES = ["intensities", "utilisation_cumulative", "kappa_cka", "effective_dimension_quality", "nc1_trace"]
PROBES = {
    "schedule": {"kind": "log", "points": 4},
    "kernel": {"size": 5},
    "variables": ["trace"],
    "features": {"train": 150, "test": 90, "variables": VARIABLES},
}


@pytest.fixture(scope="module")
def launched(launch, tmp_path_factory: pytest.TempPathFactory):
    done = launch(tmp_path_factory.mktemp("features") / "small", "--offline", probes=PROBES)
    done.finish()
    return done


def test_every_variable_is_measured_once_beside_the_kernels(launched):
    frame = pipeline.load(launched.out)
    assert sorted(keys(frame)) == sorted(planned_keys(launched.store))
    assert set(frame["state"]) == {"measured"}
    assert set(frame.loc[frame["outputs"] == "features", "split"]) == {"both"}
    profiles = pipeline.load(launched.out, "profiles")
    assert sorted(set(profiles["variable"])) == ["intensities", "utilisation_cumulative"]
    assert len(profiles) == 2 * sum(len(run.schedule) for run in launched.store.runs)
    assert "kappa cka" in (launched.out / "report.html").read_text()


def test_intensities_are_those_of_the_kept_network_on_the_kept_points(launched):
    """From the kept files alone: the hidden layers are written down here."""
    storage, store = launched.storage, launched.store
    (probe,) = (probe for probe in store.plan.probes if probe.is_of_features)
    points = read_points(storage, probe.id)
    assert len(points["inputs"]), len(points[f"{HELD_OUT}inputs"]) == (150, 90)
    run = next(run for run in store.runs if run.varied["model.width"] == 16)
    name = run_files.current_snapshots(storage, run.id)[-1]
    state, _ = read_snapshot(storage, run.id, name)
    network = MLP(width=16).build((1, 28, 28), 10).double()
    network.load_state_dict({key: value.double() for key, value in state.items()})
    features = network[:-1](points["inputs"].double()).detach()
    expected = torch.linalg.eigvalsh(features.T @ features / 150).flip(0)
    rows = pipeline.load(launched.out, "profiles")
    (row,) = rows.loc[
        (rows["run"] == run.id) & (rows["step"] == name.step) & (rows["variable"] == "intensities")
    ].values
    found = torch.tensor(dict(zip(rows.columns, row, strict=True))["values"])
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected[0]))


def test_kept_snapshots_are_probed_again_for_other_features(launched):
    before, (run, _) = pipeline.load(launched.out), launched.store.runs
    wanted = ["--variables", "nc2", "kappa_cka", "--test-points", "60", "--steps", "0"]
    launched.command("probe", run.name, *wanted, "--offline")
    after = pipeline.load(launched.out)
    assert len(after) == len(before) + 2
    same = ["run", "step", "probe", "variable"]
    new = pd.concat([before[same], after[same]]).drop_duplicates(keep=False)
    assert set(new["variable"]) == {"nc2", "kappa_cka"}
    assert set(new["step"]) == {0}
