"""Shares of a cluster, and who takes the workers' place when all is trained."""

from typing import Any

import pytest

from tangentscope.pipeline.config.resources import Resources

POOL = {"pool": "gpus"}


@pytest.mark.parametrize(
    ("train", "probe", "successors"),
    [
        ({}, {}, 1),
        ({"groups": 2, "workers": 3, "cpu": 2}, {"cpu": 4}, 3),
        ({"cpu": 2, "env_runners": 5}, {"cpu": 3}, 2),
        ({"cpu": 1}, {"cpu": 2}, 0),
        ({"cpu": 8, "gpu": 1}, {"cpu": 2, "gpu": 0.5}, 2),
        ({"cpu": 1, "gpu": 1}, {"gpu": 0.25}, 1),
        ({"cpu": 8, "gpu": 1}, {"gpu": 0.2}, 5),
        ({"groups": 7, "cpu": 20, "gpu": 1}, {"gpu": 0.07}, 100),
        ({"cpu": 8}, {"gpu": 0.5}, 0),
        ({"cpu": 8}, {"successors": 3}, 3),
        ({"cpu": 2}, {"successors": 3}, 2),
        ({}, {"successors": 0}, 0),
        ({"groups": 4, "labels": POOL}, {"labels": POOL}, 4),
        ({"groups": 4, "labels": POOL}, {}, 0),
        ({"groups": 4}, {"labels": POOL}, 0),
    ],
)
def test_as_many_probers_as_workers_leave_room_for_follow_them(
    train: dict[str, Any], probe: dict[str, Any], successors: int
):
    assert Resources.model_validate({"train": train, "probe": probe}).successors == successors


def test_a_study_wants_what_its_workers_and_probers_want():
    resources = {"train": {"groups": 2, "workers": 2, "cpu": 3, "gpu": 1}, "probe": {"actors": 4, "cpu": 2, "gpu": 0.5}}
    assert Resources.model_validate(resources).wants == {"CPU": 20, "GPU": 6}
