"""What ``plan.json`` holds: all that workers, probers and reports need to know, of a study or of a user's own loop."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tangentscope.pipeline.probing.given import Given, constants_of
from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.sealed import checksum
from tangentscope.pipeline.store.snapshots import plain_state
from tangentscope.pipeline.study.runs import Probe, Run
from tangentscope.pipeline.study.spec import Probes, Report, Study
from tangentscope.pipeline.system.errors import UserError, nearest
from tangentscope.probes import VARIABLES, givens_of, layer_names


@dataclass(frozen=True)
class Training:
    """What a user says of a training in a loop of their own.

    module: the network, without what may be wrapped around it.
    epoch_steps: updates in an epoch, None where epochs mean nothing.
    config: whatever else tells it from other trainings, as JSON can hold it.
    further: more that its identity hangs on; what is as usual is not in it, so that ids stay what they were.
    """

    name: str
    module: nn.Module
    steps: int
    epoch_steps: int | None
    seed: int
    config: Mapping[str, Any]
    further: Mapping[str, Any]

    @property
    def run_name(self) -> str:
        """The config's plain values and the seed, e.g. ``lr=0.1 seed=1``; the name where there is neither."""
        plain = [f"{key}={value}" for key, value in self.config.items() if isinstance(value, str | int | float)]
        words = [*plain, *([f"seed={self.seed}"] if plain or self.seed else [])]
        return " ".join(words)[:_NAME_LENGTH] or self.name


_EARLIER = ("initial", "previous")  # networks of its run with which a variable can compare
_NAME_LENGTH = 100


def plan_record(
    study: Study,
    runs: list[Run],
    launch: int,
    retried: Mapping[str, Mapping[str, float]] | None = None,
    further: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Of a study.

    Args:
        study: As it was resolved.
        runs: Of it.
        launch: That writes it.
        retried: By run, the launch before which failed measurements count no more (``retried``), and in older stores
            the time (``retried_at``).
        further: What was asked for beyond it, as `tangentscope.pipeline.driver.probe` keeps it.
    """
    kinds = {probe.id: probe.record() for run in runs for probe in run.probes}
    about = {"study": study.name, "launch": launch, **(retried or {})}
    about |= {"varied": [*study.grid, *study.zip], "report": study.report.model_dump(mode="json")}
    ours = [each for each in further if each["run"] in {run.id for run in runs}]
    beyond: dict[str, list[dict[str, Any]]] = {each["run"]: [] for each in ours}
    for each in ours:
        probe = {key: each["probe"][key] for key in ("probe", "variables")}
        beyond[each["run"]].append(probe | {"steps": each["steps"]})
    records = [run.record() | ({"further": beyond[run.id]} if run.id in beyond else {}) for run in runs]
    about |= {"further": [{**each["probe"], "source": each["source"]} for each in ours]} if ours else {}
    names = [*study.probes.variables, *(name for each in ours for name in each["probe"]["variables"])]
    return about | _measured(study.probes.keep, names, list(kinds.values())) | {"runs": records}


def named(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The records among `runs` that have these names or ids, in the order they were named.

    Raises:
        UserError: A name that no run has.
    """
    known = {name: run for run in runs for name in (run["name"], run["run"])}
    for name in names:
        if name not in known:
            raise UserError(f'run "{name}" unknown; {nearest(name, (run["name"] for run in runs))}')
    return [known[name] for name in names]


def attached_record(training: Training, splits: Mapping[str, Given], probes: Probes, launch: int) -> dict[str, Any]:
    """Of one training in a loop of the user's own.

    Its id tells trainings apart by name, shapes, length, data, seed and config, and by what the kernel is of.
    """
    module, steps = training.module, training.steps
    axis, epoch_steps = ("epoch", training.epoch_steps) if training.epoch_steps else ("step", 1)
    state = plain_state(module)
    fingerprint = _fingerprint(splits)
    shapes = {key: [str(tensor.dtype), *tensor.shape] for key, tensor in state.items()}
    known = {"attached": training.name, "state": shapes, "steps": steps, "epoch_steps": epoch_steps}
    known |= {"data": fingerprint, **training.further}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
    kinds = [Probe(split, probes.kernel, fingerprint, probes.variables) for split in splits]
    parts = {"task": "attached", "model": type(module).__name__, "optimiser": "attached"}
    run = {"run": digest, "name": training.run_name, "seed": training.seed, "varied": {}}
    run |= {
        "steps": steps,
        "epoch_steps": epoch_steps,
        "config": {kind: {"name": part} for kind, part in parts.items()},
    }
    run["config"] |= {"seed": training.seed} | ({"config": dict(training.config)} if training.config else {})
    run |= {"parameters": sum(parameter.numel() for parameter in module.parameters()), "batch_size": 1}
    run |= {"schedule": probes.schedule.steps(steps, epoch_steps), "evaluations": [], "score": "score"}
    run |= {"probes": [kind.id for kind in kinds], "layers": list(layer_names(module))}
    run |= {"data": {"source": "points given to attach()", "fingerprint": fingerprint}}
    run["data"] |= {split: len(points) for split, points in splits.items()}
    about = {"study": training.name, "launch": launch, "varied": []}
    about |= {"report": Report(figures=("curves",), x=axis).model_dump(mode="json")}
    measured = _measured(probes.keep, probes.variables, [kind.record() for kind in kinds])
    return about | measured | {"runs": [run]}


def _measured(keep: str, names: Sequence[str], kinds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "schema": layout.SCHEMA,
        "keep": keep,
        "probes": kinds,
        "versions": {name: VARIABLES[name].version for name in names},
        "compares": {
            name: ways for name in names if (ways := [way for way in _EARLIER if f"{way}_kernel" in givens_of(name)])
        },
    }


def _fingerprint(splits: Mapping[str, Given]) -> str:
    tensors: dict[str, Tensor] = {}
    constants: list[str] = []
    for name, split in splits.items():
        tensors |= {f"{name}.{part}": tensor.cpu() for part, tensor in split.tensors().items()}
        constants += constants_of(split.inputs)
    digest = checksum(tensors)
    return digest if not constants else hashlib.sha256(" ".join([digest, *constants]).encode()).hexdigest()[:16]
