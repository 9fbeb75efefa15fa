"""A study whose training and probes have nodes of their own, told apart by Ray's labels."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Actor, Cluster
from small_study import keys, planned_keys

from tangentscope import pipeline

pytestmark = pytest.mark.ray

POOLS = {
    "train": {"groups": 2, "labels": {"pool": "train"}},
    "probe": {"actors": 2, "labels": {"pool": "probe", "zone": "b"}},
}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """Three nodes, each with room for the whole study. Ray takes the largest first, which is in no pool."""
    started = Cluster()
    try:
        for cpus, labels in ((16, None), (6, "pool=train"), (4, "pool=probe,zone=b")):
            started.add(cpus=cpus, labels=labels)
        yield started
    finally:
        started.close()


@pytest.mark.slow
def test_training_and_probes_stay_on_their_nodes(launch, undisturbed, nodes: Cluster, tmp_path: Path):
    there = launch(tmp_path / "small", "--address", nodes.address, env=nodes.env, resources=POOLS)
    there.finish()
    ran = nodes.actors()
    assert {actor.pool for actor in ran if actor.cls == "Prober"} == {"probe"}
    assert {actor.pool for actor in ran if actor.cls == "RayTrainWorker"} == {"train"}
    assert [actor.with_owner for actor in ran if actor.cls in ("Hub", "TrackerActor")] == [True, True]
    assert [sum(actor.cls == cls for actor in ran) for cls in ("Prober", "RayTrainWorker")] == [2, 2]

    assert sorted(keys(pipeline.load(there.out))) == sorted(planned_keys(there.store))
    ours, theirs = (
        pipeline.load(one.out).set_index(["run", "step", "probe", "variable"])["value"].sort_index()
        for one in (undisturbed, there)
    )
    assert ours.equals(theirs)


@pytest.mark.slow
def test_labels_that_no_node_has_are_told_before_anything_starts(launch, nodes: Cluster, tmp_path: Path):
    before: list[Actor] = nodes.actors()
    arguments = ("--offline", "--address", nodes.address, "resources.probe.labels.zone=a")
    printed = launch(tmp_path / "small", *arguments, env=nodes.env, resources=POOLS).finish(2)
    assert (
        "resources.probe.labels: no node has pool=probe,zone=a, "
        "there are nodes with no labels; pool=probe,zone=b; pool=train; "
        "start one by `ray start --labels=pool=probe,zone=a`, or ask for labels that are there"
    ) in " ".join(printed.split())
    assert nodes.actors() == before


def test_on_this_machine_alone_labels_are_refused(launch, tmp_path: Path):
    printed = launch(tmp_path / "small", "--offline", resources=POOLS).finish(2)
    assert (
        "resources.train.labels: the study asks for nodes with pool=train, this machine alone has none; "
        "give the --address of a cluster, or resources.train.labels={} resources.probe.labels={} to run here"
    ) in " ".join(printed.split())


@pytest.mark.slow
def test_doctor_tells_each_nodes_labels(nodes: Cluster):
    command = [sys.executable, "-m", "tangentscope", "doctor", "--address", nodes.address]
    done = subprocess.run(command, env=nodes.surroundings, capture_output=True, text=True, timeout=200)
    lines = [line for line in done.stdout.splitlines() if line.startswith("ok    node ")]
    assert sorted(line.split(", ", 1)[1] for line in lines) == [
        f"{labels}: the same packages as here" for labels in ("no labels", "pool=probe,zone=b", "pool=train")
    ]
