"""Looking at every node of a Ray cluster, by a task on each."""

import logging
from collections.abc import Iterator
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline import doctor, provenance
from pipeline.doctor import Check
from pipeline.errors import one_line

_PATIENCE_SECONDS = 60.0


def checks(address: str) -> Iterator[Check]:
    """Whether there is a cluster at `address`, and for each node whether it has what this machine has."""
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        mend = "start one, or set RAY_AUTH_MODE and RAY_AUTH_TOKEN as it has them"
        yield Check("ray", False, f"no cluster at {address}: {one_line(error)}; {mend}")
        return
    try:
        alive = [node for node in ray.nodes() if node["Alive"]]
        there = {name: count for name, count in ray.cluster_resources().items() if name in ("CPU", "GPU")}
        found = ", ".join(f"{count:g} {name}s" for name, count in sorted(there.items()))
        yield Check("ray", True, f"{len(alive)} nodes with {found} at {address}")
        look = ray.remote(num_cpus=0)(_look)
        asked = {
            node["NodeID"]: look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote()
            for node in alive
        }
        for node in alive:
            yield _check(node, asked[node["NodeID"]])
    finally:
        ray.shutdown()


def _look() -> dict[str, Any]:
    return {"versions": provenance.versions(), "wrong": [each.found for each in doctor.shadows() if not each.good]}


def _check(node: dict[str, Any], asked: Any) -> Check:
    what = f"node {node['NodeManagerHostname']} {node['NodeID'][:6]}"
    try:
        seen: Any = ray.get(asked, timeout=_PATIENCE_SECONDS)
    except Exception as error:  # the code may be absent there
        return Check(what, False, f"{one_line(error)}; install the same tangentscope there, or use its image")
    ours = provenance.versions()
    other = [f"{name} {seen['versions'].get(name)}, here {ours[name]}" for name in ours]
    other = [line for line, name in zip(other, ours, strict=True) if seen["versions"].get(name) != ours[name]]
    wrong = seen["wrong"] + ([f"{'; '.join(other)}; install the same versions on all nodes"] if other else [])
    return Check(what, not wrong, "; ".join(wrong) or "the same packages as here")
