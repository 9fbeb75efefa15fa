"""What ``plan.json`` says: the runs of a study or of a user's own loop, and what is to be measured of them.

Every part of the pipeline reads a plan by these classes and those of `tangentscope.pipeline.store.planned`.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self

from tangentscope.pipeline.store import layout, records
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.planned import PlannedProbe, PlannedRun

Keep = Literal["all", "ends", "none"]
"""Which snapshots stay once they have been measured: all, the first and the last, or none."""

Wanted = Mapping[int, Mapping[str, tuple[str, ...]]]
"""What is to be measured of a run: by step, in ascending order, variables by probe."""


@dataclass(frozen=True)
class Plan:
    """All that workers, probers and reports need to know, of a study or of a user's own loop.

    Args:
        study: Its name.
        runs: Its trainings.
        probes: By which they are measured.
        varied: The config fields that the study varies.
        launch: That wrote the plan; 0 if an early version did.
        keep: Which measured snapshots stay.
        versions: Of all variables.
        compares: With which earlier networks a variable compares, ``initial`` and ``previous``.
        report: What the report shows and how; None if an early version wrote the plan.
        further: Probes that were asked for beyond the study.
        retried: By run, the launch before which failed measurements count no more.
        retried_at: By run, the same as a time, as early versions had it.
        schema: Of the whole store.
    """

    study: str
    runs: tuple[PlannedRun, ...]
    probes: tuple[PlannedProbe, ...]
    varied: tuple[str, ...]
    launch: int
    keep: Keep
    versions: Mapping[str, int]
    compares: Mapping[str, tuple[str, ...]]
    report: Mapping[str, Any] | None = None
    further: tuple[PlannedProbe, ...] = ()
    retried: Mapping[str, int] = field(default_factory=dict)
    retried_at: Mapping[str, float] = field(default_factory=dict)
    schema: int = layout.SCHEMA

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The content of ``plan.json``."""
        return cls(
            record["study"],
            tuple(PlannedRun.from_json(run) for run in record["runs"]),
            tuple(PlannedProbe.from_json(probe) for probe in record.get("probes", ())),
            tuple(record["varied"]),
            record.get("launch", 0),
            record.get("keep", "all"),
            record.get("versions", {}),
            {name: tuple(ways) for name, ways in record.get("compares", {}).items()},
            record.get("report"),
            tuple(PlannedProbe.from_json(probe) for probe in record.get("further", ())),
            record.get("retried", {}),
            record.get("retried_at", {}),
            record.get("schema", 1),  # stores from before there was a schema have what the first one has
        )

    def to_json(self) -> dict[str, Any]:
        """What ``plan.json`` is to hold."""
        plain = ("study", "launch", "keep", "report", "schema")
        record: dict[str, Any] = {name: getattr(self, name) for name in plain}
        record |= {"varied": list(self.varied), "versions": dict(self.versions)}
        record |= {"compares": {name: list(ways) for name, ways in self.compares.items()}}
        record |= {"retried": dict(self.retried), "retried_at": dict(self.retried_at)}
        record |= {"probes": [probe.to_json() for probe in self.probes]}
        if self.further:
            record |= {"further": [probe.to_json() | {"source": probe.source} for probe in self.further]}
        return record | {"runs": [run.to_json() for run in self.runs]}

    @classmethod
    def read(cls, storage: Storage) -> Self | None:
        """The plan of a store; None if there is none.

        Raises:
            UserError: It is damaged.
        """
        record = records.read(storage, layout.PLAN, "plan")
        return None if record is None else cls.from_json(record)

    def write(self, storage: Storage) -> None:
        """Put it in place of the store's last one."""
        storage.write_json(layout.PLAN, self.to_json())

    @cached_property
    def run_of(self) -> dict[str, PlannedRun]:
        """The runs by id."""
        return {run.id: run for run in self.runs}

    @cached_property
    def every_probe(self) -> dict[str, PlannedProbe]:
        """All probes by id, the study's and further ones, each with all variables that are wanted of it anywhere."""
        every: dict[str, PlannedProbe] = {}
        for probe in (*self.probes, *self.further):
            first = every.get(probe.id, probe)
            every[probe.id] = replace(first, variables=tuple(dict.fromkeys([*first.variables, *probe.variables])))
        return every

    def wanted(self, run: PlannedRun) -> Wanted:
        """What is to be measured of one of the runs."""
        variables = {probe.id: probe.variables for probe in self.probes}
        own = {probe: variables[probe] for probe in run.probes if probe in variables}
        by_step: dict[int, dict[str, tuple[str, ...]]] = dict.fromkeys(run.schedule, own)
        for further in run.further:
            for step in further.steps:
                others = by_step.get(step, {})
                both = (*others.get(further.probe, ()), *further.variables)
                by_step[step] = {**others, further.probe: tuple(dict.fromkeys(both))}
        return {step: by_step[step] for step in sorted(by_step)}

    @cached_property
    def suffixes(self) -> dict[str, str]:
        """What to add to a variable's name for each probe, so that a name stands for one way of measuring in all runs.

        Probes that differ by their data alone, such as those of two tasks, add the same, unless a run has both.
        """
        names: dict[tuple[Any, ...], str] = {}
        taken: set[tuple[str, str]] = set()
        for probe in self.every_probe.values():
            if probe.way not in names:
                names[probe.way] = name = _unlike(taken, probe)
                taken.add((probe.split, name))
        beside: set[str] = set()
        for run in self.runs:
            first: dict[tuple[Any, ...], str] = {}
            ours = (self.every_probe.get(probe) for probe in (*run.probes, *(each.probe for each in run.further)))
            beside |= {probe.id for probe in ours if probe and first.setdefault(probe.way, probe.id) != probe.id}
        return {
            probe.id: names[probe.way] + (f"_{probe.id[:6]}" if probe.id in beside else "")
            for probe in self.every_probe.values()
        }


def count_values(wanted: Wanted) -> int:
    """How many values that makes."""
    return sum(len(variables) for probes in wanted.values() for variables in probes.values())


def _unlike(taken: Container[tuple[str, str]], probe: PlannedProbe) -> str:
    usual = probe.outputs == "full" or probe.is_of_features
    parts = [probe.outputs] * (not usual) + [probe.part] * bool(probe.part)
    name, more = "".join(f"_{part}" for part in parts), (f"_{probe.draws}x{probe.size}", f"_seed{probe.seed}")
    for addition in ("", *more):
        if (probe.split, name) in taken:
            name += addition
    return name
