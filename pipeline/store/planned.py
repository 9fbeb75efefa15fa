"""What a plan says of one run, its data and its probes.

What a plan on storage may lack, since an earlier version or a loop of the user's own wrote it, has its default in the
`from_json` of these classes and of :class:`tangentscope.pipeline.store.plan.Plan`, and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

ATTACHED = "attached"
"""What stands for the task of a run that a loop of the user's own trains."""

_SPLITS = ("train", "test", "valid")


@dataclass(frozen=True)
class PlannedProbe:
    """One kind of measurement: a kernel on given data points, and the variables of it.

    Args:
        id: Hash of all but the variables.
        split: The points' split, ``stages``, or ``both`` of features.
        outputs: Treatment of outputs, or ``features``.
        draws: Kernels at each step.
        size: Points of each.
        seed: Of the draws.
        fingerprint: Of the data.
        part: Of the outputs, that the kernel is of; None for all.
        variables: That are measured of it.
        held_out: Of a probe of features, how many points beside `size` to learn from; 0 of kernels.
        source: Where the points come from, if not from the run's data; only of what was asked for further.
    """

    id: str
    split: str
    outputs: str
    draws: int
    size: int
    variables: tuple[str, ...]
    seed: int = 0
    fingerprint: str = ""
    part: str | None = None
    source: str | None = None
    held_out: int = 0

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """A probe as ``plan.json`` or a further request has it."""
        return cls(
            record["probe"],
            record["split"],
            record["outputs"],
            record["draws"],
            record["size"],
            tuple(record["variables"]),
            record.get("seed", 0),
            record.get("fingerprint", ""),
            record.get("part"),
            record.get("source"),
            record.get("held_out", 0),
        )

    def to_json(self) -> dict[str, Any]:
        """The probe as files have it, its source apart."""
        names = ("split", "outputs", "draws", "size", "seed", "fingerprint", "part")
        record = {"probe": self.id, **{name: getattr(self, name) for name in names}, "variables": list(self.variables)}
        return record | ({"held_out": self.held_out} if self.held_out else {})

    @property
    def way(self) -> tuple[Any, ...]:
        """How it measures, whatever the data: probes of two tasks can be of one way."""
        return self.split, self.outputs, self.part, self.draws, self.size, self.seed, self.held_out

    @property
    def is_of_features(self) -> bool:
        """Whether it is of features of the last hidden layer, and of no kernel."""
        return self.held_out > 0


@dataclass(frozen=True)
class FurtherSteps:
    """What was asked for of one run beyond its study: variables of a probe, at these steps."""

    probe: str
    variables: tuple[str, ...]
    steps: tuple[int, ...]

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """An entry of a run's ``further``."""
        return cls(record["probe"], tuple(record["variables"]), tuple(record["steps"]))

    def to_json(self) -> dict[str, Any]:
        """The entry as ``plan.json`` has it."""
        return {"probe": self.probe, "variables": list(self.variables), "steps": list(self.steps)}


@dataclass(frozen=True)
class PlannedData:
    """What a run is trained on.

    Args:
        source: In words.
        fingerprint: Of its content; empty where an early version did not say.
        sizes: Points of each split.
        input_shape, outputs, codes: What a network for them needs to know; None and empty for a user's own loop.
    """

    source: str = ""
    fingerprint: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    input_shape: tuple[int, ...] | None = None
    outputs: int | None = None
    codes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def shapes(self) -> tuple[tuple[int, ...], int, Mapping[str, tuple[int, ...]]]:
        """The shape of an input, how many outputs a network for them has, and the codes; not of a user's own loop."""
        assert self.input_shape is not None
        assert self.outputs is not None
        return self.input_shape, self.outputs, self.codes

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """A run's ``data``."""
        shape = record.get("input_shape")
        return cls(
            record.get("source", ""),
            record.get("fingerprint", ""),
            {split: record[split] for split in _SPLITS if split in record},
            None if shape is None else tuple(shape),
            record.get("outputs"),
            {part: tuple(counts) for part, counts in record.get("codes", {}).items()},
        )

    def to_json(self) -> dict[str, Any]:
        """The data as ``plan.json`` has them."""
        record = {"source": self.source, "fingerprint": self.fingerprint, **self.sizes}
        if self.input_shape is None:
            return record
        codes = {part: list(counts) for part, counts in self.codes.items()}
        return record | {"input_shape": list(self.input_shape), "outputs": self.outputs, "codes": codes}


@dataclass(frozen=True)
class PlannedRun:
    """One training, and when it is probed.

    Args:
        id: Twelve hex digits that stay the same wherever and whenever the run is trained.
        name: The varied fields and the seed.
        seed: Of the training.
        varied: What the study varies, by field.
        config: The scientific config with every field at its value.
        steps: Updates in the whole training; of games, iterations.
        epoch_steps: Updates in an epoch.
        schedule: The steps at which it is probed.
        parameters: Trainable numbers of the network.
        batch_size: Points in a global batch; of games, actions in an iteration.
        snapshots: The steps at which a snapshot is taken: the schedule's and maybe more.
        evaluations: The steps at which loss and score are taken.
        probes: Ids.
        layers: Names of the network's layers.
        data: That it is trained on.
        score: The name of the score.
        observes: Which outputs kernels are of, in words; None where nothing says so.
        further: What was asked for beyond the study.
        at_rest: A training of an earlier loop, beside which another one is attached now.
    """

    id: str
    name: str
    seed: int
    varied: Mapping[str, Any]
    config: Mapping[str, Any]
    steps: int
    epoch_steps: int
    schedule: tuple[int, ...]
    parameters: int
    batch_size: int
    snapshots: tuple[int, ...]
    evaluations: tuple[int, ...]
    probes: tuple[str, ...]
    layers: tuple[str, ...]
    data: PlannedData
    score: str
    observes: str | None = None
    further: tuple[FurtherSteps, ...] = ()
    at_rest: bool = False

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """An entry of a plan's ``runs``."""
        return cls(
            record["run"],
            record["name"],
            record["seed"],
            record["varied"],
            record["config"],
            record["steps"],
            record["epoch_steps"],
            tuple(record["schedule"]),
            record.get("parameters", 0),
            record.get("batch_size", 1),
            tuple(record.get("snapshots", record["schedule"])),
            tuple(record.get("evaluations", ())),
            tuple(record.get("probes", ())),
            tuple(record.get("layers", ())),
            PlannedData.from_json(record.get("data", {})),
            record.get("score", "score"),
            record.get("observes"),
            tuple(FurtherSteps.from_json(each) for each in record.get("further", ())),
            record.get("at_rest", False),
        )

    def to_json(self) -> dict[str, Any]:
        """The run as ``plan.json`` has it."""
        plain = ("name", "seed", "varied", "config", "steps", "epoch_steps", "parameters", "batch_size", "score")
        lists = ("schedule", "evaluations", "probes", "layers", *(() if self.is_attached else ("snapshots",)))
        record: dict[str, Any] = {"run": self.id, **{name: getattr(self, name) for name in plain}}
        record |= {name: list(getattr(self, name)) for name in lists} | {"data": self.data.to_json()}
        record |= {} if self.observes is None else {"observes": self.observes}
        record |= {"further": [each.to_json() for each in self.further]} if self.further else {}
        return record | ({"at_rest": True} if self.at_rest else {})

    @property
    def task(self) -> str:
        """The name of its task, `ATTACHED` in a loop of the user's own."""
        return self.config["task"]["name"]

    @property
    def model(self) -> str:
        """The name of its model; in a loop of the user's own, of the network's class."""
        return self.config["model"]["name"]

    @property
    def is_attached(self) -> bool:
        """Whether a loop of the user's own trains it."""
        return self.task == ATTACHED

    @property
    def wish(self) -> tuple[Any, ...]:
        """What is the same for runs of a plan of which the same is wanted, at the same steps."""
        return self.schedule, self.probes, self.further

    def epoch(self, step: int) -> float:
        """Epochs that have passed after so many updates."""
        return step / self.epoch_steps
