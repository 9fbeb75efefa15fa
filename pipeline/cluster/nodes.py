"""The nodes of a Ray cluster: looked at by a task on each, and told apart by their labels."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tangentscope.pipeline.cluster.token import check_token
from tangentscope.pipeline.config.resources import Resources
from tangentscope.pipeline.system import provenance
from tangentscope.pipeline.system.errors import UserError, one_line
from tangentscope.pipeline.system.installation import Check

_PATIENCE_SECONDS = 60.0
_NODE_ID = "ray.io/node-id"  # a label that Ray gives to each node


def checks(address: str) -> Iterator[Check]:
    """Whether there is a cluster at `address`, and for each node whether it has what this machine has."""
    try:
        check_token()
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
    return {"versions": provenance.versions()}


def _check(node: dict[str, Any], asked: Any) -> Check:
    what = f"node {node['NodeManagerHostname']} {node['NodeID'][:6]}, {_told(node['Labels'])}"
    try:
        seen: Any = ray.get(asked, timeout=_PATIENCE_SECONDS)
    except Exception as error:  # the code may be absent there
        return Check(what, False, f"{one_line(error)}; install the same tangentscope there, or use its image")
    ours = provenance.versions()
    other = [f"{name} {seen['versions'].get(name)}, here {ours[name]}" for name in ours]
    other = [line for line, name in zip(other, ours, strict=True) if seen["versions"].get(name) != ours[name]]
    wrong = f"{'; '.join(other)}; install the same versions on all nodes"
    return Check(what, not other, wrong if other else "the same packages as here")


def refuse_labels(resources: Resources) -> None:
    """Raise UserError if a study asks for labels: a Ray of this machine's own has no nodes to tell apart."""
    if asked := dict(_asked(resources)):
        place, labels = next(iter(asked.items()))
        mend = f"give the --address of a cluster, or {' '.join(f'{each}={{}}' for each in asked)} to run here"
        raise UserError(f"{place}: the study asks for nodes with {_told(labels)}, this machine alone has none; {mend}")


def check_labels(resources: Resources, nodes: Sequence[Mapping[str, str]]) -> None:
    """Raise UserError if a study asks for labels that no node has.

    Ray does not tell which nodes an autoscaler could add: it must keep one of each pool that a study names.

    Args:
        resources: The study's.
        nodes: Each node's labels.
    """
    for place, asked in _asked(resources):
        if not any(asked.items() <= labels.items() for labels in nodes):
            there = "; ".join(sorted({_told(labels) for labels in nodes}))
            mend = f"start one by `ray start --labels={_told(asked)}`, or ask for labels that are there"
            raise UserError(f"{place}: no node has {_told(asked)}, there are nodes with {there}; {mend}")


def _asked(resources: Resources) -> Iterator[tuple[str, dict[str, str]]]:
    for name, pool in (("train", resources.train), ("probe", resources.probe)):
        if pool.labels:
            yield f"resources.{name}.labels", pool.labels


def _told(labels: Mapping[str, str]) -> str:
    given = [f"{key}={value}" for key, value in sorted(labels.items()) if key != _NODE_ID]
    return ",".join(given) or "no labels"
