"""A cluster of several raylets: looked at by `doctor`, used by `run`, and refused where it cannot see the results."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import Cluster, cluster
from small_study import keys, planned_keys

from tangentscope import pipeline
from tangentscope.pipeline.cluster.connection import check_seen
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import UserError

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def nodes():
    with cluster(nodes=2) as started:
        yield started


@pytest.mark.slow
def test_doctor_looks_at_every_node(nodes: Cluster, tmp_path: Path):
    command = [sys.executable, "-m", "tangentscope", "doctor", "--address", nodes.address, "--out", str(tmp_path / "o")]
    done = subprocess.run(command, env=nodes.surroundings, capture_output=True, text=True, timeout=200)
    lines = done.stdout.splitlines()
    assert f"ok    ray: 2 nodes with 4 CPUs at {nodes.address}" in lines
    assert len([line for line in lines if line.startswith("ok    node ")]) == 2
    assert len({line for line in lines if "the same packages as here" in line}) == 2
    refused = subprocess.run(
        command, env=nodes.surroundings | {"RAY_AUTH_TOKEN": "0" * 32}, capture_output=True, text=True, timeout=200
    )
    assert refused.returncode == 1
    (line,) = [line for line in refused.stdout.splitlines() if " ray: " in line]
    assert line.startswith(f"WRONG ray: no cluster at {nodes.address}: ")
    assert line.endswith("set RAY_AUTH_MODE and RAY_AUTH_TOKEN as it has them")


@pytest.mark.slow
def test_a_study_on_two_nodes_is_the_study_on_one(launch, undisturbed, nodes: Cluster, tmp_path: Path):
    there = launch(tmp_path / "small", "--offline", "--address", nodes.address, env=nodes.env)
    there.finish()
    assert sorted(keys(pipeline.load(there.out))) == sorted(planned_keys(there.store))
    ours, theirs = (
        pipeline.load(one.out).set_index(["run", "step", "probe", "variable"])["value"].sort_index()
        for one in (undisturbed, there)
    )
    assert ours.equals(theirs)


def test_a_local_path_is_refused_where_not_all_machines_see_it(tmp_path: Path):
    local, remote = Storage.at(tmp_path), Storage.at("s3://bucket/study")
    with pytest.raises(UserError, match="is a local path, and the cluster has the machines a, b; give a URI"):
        check_seen(local, {"b", "a"}, shared=False)
    check_seen(local, {"a", "b"}, shared=True)
    check_seen(local, {"a"}, shared=False)
    check_seen(remote, {"a", "b"}, shared=False)
