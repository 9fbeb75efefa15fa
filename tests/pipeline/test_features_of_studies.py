"""What a study may ask of features: one line for what cannot be had, and their place in plans and on their points."""

from typing import Any

import pytest
import torch

from tangentscope.pipeline.config.features import MEASURED, FeaturePoints
from tangentscope.pipeline.probing.points import HELD_OUT, draw_feature_points
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.runs import Run, make_runs
from tangentscope.pipeline.study.spec import Study, read_study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.probes import FEATURE_VARIABLES, VARIABLES
from tangentscope.studies import shipped
from tangentscope.tasks import Split

SMALL = ("task.train_size=300", "task.test_size=200", "grid.model.width=[6, 8]", "train={epochs: 1}")
POINTS = {"train": 120, "test": 80}


def planned(*overrides: str, variables: str = "[kappa_cka]", **points: Any) -> tuple[Study, list[Run]]:
    fields = [f"probes.features.{name}={value}" for name, value in {**POINTS, **points}.items()]
    fields += [f"probes.features.variables={variables}"]
    study = read_study(shipped()["quickstart"], (*SMALL, *fields, *overrides))
    return study, make_runs(study, None, "mine.yaml")


NO_HEAD = ("task={name: step}", "model={name: scalar_net, width: 4}", "grid={}")
WRONG: dict[str, tuple[tuple[str, ...], dict[str, Any], list[str]]] = {
    "unknown": ((), {"variables": "[kapa_cka]"}, ["probes.features.variables: got", 'did you mean "kappa_cka"?']),
    "of kernels": ((), {"variables": "[trace]"}, ['feature variable "trace" unknown']),
    "among kernels'": (("probes.variables=[kappa_cka]",), {}, ["probes.variables: got", "probes.features.variables"]),
    "none": ((), {"variables": "[]"}, ["probes.features.variables: got []", "at least 1"]),
    "twice": ((), {"variables": "[nc2, nc2]"}, ["each may stand once"]),
    "learnability": ((), {"variables": "[learnability]"}, ["only feature_metrics() takes; leave it out"]),
    "too many": ((), {"train": 301}, ["probes.features.train: got 301 points, but", "has 300", "task.train_size"]),
    "fewer than features": (
        (),
        {"train": 7, "variables": "[kappa_cka, intensities, feature_trace]"},
        ["probes.features.train: got 7 points for the 8 features of mlp", "cuts off intensities after", "give 8 at"],
    ),
    "fewer held out": (
        (),
        {"test": 7, "variables": "[intensities, utilisation]"},
        ["probes.features.test: got 7 points", "cuts off utilisation after the first 7"],
    ),
    "class absent": (
        (),
        {"train": 20, "variables": "[kappa_cka, nc1_trace]"},
        ["probes.features.train: of the 20 points none is of class", "(of 10), which nc1_trace needs; raise it"],
    ),
    "class held out": (
        (),
        {"test": 12, "variables": "[quality]"},
        ["probes.features.test: of the 12", "quality needs"],
    ),
    "no classes": (
        ("task={name: step}", "model={name: mlp, width: 4}", "grid={}"),
        {"variables": "[nc2]"},
        ["probes.features.variables: nc2 needs a class for each point, which step does not have"],
    ),
    "no head": (NO_HEAD, {}, ["probes.features: model scalar_net on step:", "leave features out"]),
    "nothing": (("probes.variables=[]", "probes.features=null"), {}, ["variables: got none"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_line_says_what_cannot_be_had(name: str):
    overrides, points, said = WRONG[name]
    with pytest.raises(UserError) as caught:
        planned(*overrides, **points)
    line = str(caught.value)
    assert "\n" not in line
    assert [text for text in said if text not in line] == []


def test_what_few_points_leave_whole_is_not_refused():
    _, runs = planned(train=7, test=7, variables="[kappa_cka, feature_trace]")
    assert len(runs) == 2


def test_a_plan_names_the_probe_the_same_when_it_is_read_again():
    study, runs = planned(variables="[kappa_cka, intensities]")
    plan = study_plan(study, runs, launch=1)
    again = Plan.from_json(plan.to_json())
    (probe,) = (probe for probe in again.probes if probe.is_of_features)
    assert probe in plan.probes
    assert (probe.split, probe.size, probe.held_out) == ("both", 120, 80)
    assert plan.suffixes[probe.id] == "", "its variables' names are no kernel's"
    assert [probe.id in run.probes for run in again.runs] == [True, True]
    assert {plan.versions[name] for name in probe.variables} == {1}


def test_a_further_variable_leaves_the_probe_what_it_was_and_other_points_do_not():
    (one, *_), (more, *_), (other, *_) = (
        planned(variables=names, train=train)[1]
        for names, train in (("[kappa_cka]", 120), ("[kappa_cka, nc2]", 120), ("[kappa_cka]", 121))
    )
    assert one.id == more.id == other.id, "measuring is no part of a training"
    ids = [run.features.id for run in (one, more, other) if run.features]
    assert ids[0] == ids[1] != ids[2]


def test_a_study_of_features_alone_has_no_kernels():
    _, runs = planned("probes.variables=[]")
    assert [len(run.probes) for run in runs] == [0, 0]
    assert [len(run.planned().probes) for run in runs] == [1, 1]


def test_points_are_different_ones_of_their_split_and_the_same_every_time():
    train, test = (Split(torch.arange(n)[:, None].float(), torch.arange(n) % 3) for n in (50, 40))
    points = FeaturePoints(train=20, test=15, variables=("kappa_cka",))
    drawn, again = (draw_feature_points(train, test, points) for _ in range(2))
    for prefix, split, size in (("", train, 20), (HELD_OUT, test, 15)):
        places = drawn[f"{prefix}indices"]
        assert len(set(places.tolist())) == size
        assert torch.equal(drawn[f"{prefix}inputs"], split.inputs[places])
        assert torch.equal(drawn[f"{prefix}targets"], split.targets[places])
    assert all(torch.equal(drawn[name], again[name]) for name in drawn)


def test_names_of_kernels_and_of_features_are_different():
    assert len(MEASURED) == len(VARIABLES) + len(FEATURE_VARIABLES)


def test_a_plan_without_features_is_as_it_was():
    """A study without features has no word of them in its plan: older stores read as before."""
    study = read_study(shipped()["quickstart"], SMALL)
    record = study_plan(study, make_runs(study, None), launch=1).to_json()
    assert not any("held_out" in probe for probe in record["probes"])
