"""Rows of the tables, by one function a table: a column that a table does not have cannot be given."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.store.planned import PlannedProbe, PlannedRun

Row = dict[str, Any]


@dataclass(frozen=True)
class At:
    """What a row is of: a step of an attempt at a run."""

    run: str
    attempt: int
    step: int
    epoch: float


@dataclass(frozen=True)
class KernelAt(At):
    """What a row is of that a kernel has: a snapshot, told by its checksum, and a probe."""

    checksum: str
    probe: str
    split: str
    outputs: str
    part: str | None

    @classmethod
    def of(cls, run: PlannedRun, probe: PlannedProbe, attempt: int, step: int, checksum: str) -> "KernelAt":
        """A probe's kernel of a snapshot of a run."""
        at = (run.id, attempt, step, run.epoch(step))
        return cls(*at, checksum, probe.id, probe.split, probe.outputs, probe.part)


def measurement_row(
    at: KernelAt,
    *,
    variable: str,
    version: int,
    draws: int,
    size: int,
    state: str,
    value: float | None,
    cause: str | None = None,
    stderr: float | None = None,
    draw_values: Sequence[float] | None = None,
    length: int | None = None,
    compared_with: str | None = None,
    clipped_mass: float | None = None,
    probe_seconds: float | None = None,
    lag_seconds: float | None = None,
    peak_memory: int | None = None,
    recorded_at: float | None = None,
) -> Row:
    """A value, or why there is none; the columns are explained in `tangentscope.pipeline.store.tables`.

    The launch that publishes it adds its number, and the time where nothing else has it.
    """
    columns = {name: value for name, value in locals().items() if name != "at"}
    return asdict(at) | columns


def unmeasured_rows(
    plan: Plan, run: PlannedRun, name: SnapshotName, wanted: Mapping[str, Sequence[str]], cause: str, state: str
) -> list[Row]:
    """Rows that say why nothing of what is `wanted` of a snapshot, variables by probe, could be measured."""
    probes = {probe: plan.every_probe[probe] for probe in wanted}
    return [
        measurement_row(
            KernelAt.of(run, probes[probe], name.attempt, name.step, name.checksum),
            variable=variable,
            version=plan.versions[variable],
            draws=probes[probe].draws,
            size=probes[probe].size,
            state=state,
            cause=cause,
            value=float("nan"),
        )
        for probe, variables in wanted.items()
        for variable in variables
    ]


def spectrum_row(at: KernelAt, draw: int, eigenvalues: Sequence[float]) -> Row:
    """The eigenvalues of one draw, in descending order."""
    return asdict(at) | {"draw": draw, "eigenvalues": eigenvalues}


def profile_row(
    at: KernelAt, draw: int, variable: str, version: int, values: Sequence[float], recorded_at: float
) -> Row:
    """The numbers that a variable which is a profile has for one draw."""
    numbers = {"draw": draw, "variable": variable, "version": version, "values": values}
    return asdict(at) | numbers | {"recorded_at": recorded_at}


def history_row(at: At, split: str, variable: str, value: float, recorded_at: float) -> Row:
    """A loss, a score or another value of training."""
    return asdict(at) | {"split": split, "variable": variable, "value": value, "recorded_at": recorded_at}


def snapshot_row(
    at: At,
    checksum: str,
    size: int,
    *,
    copy_seconds: float,
    wait_seconds: float,
    write_seconds: float,
    taken_at: float,
) -> Row:
    """What a snapshot of `size` bytes cost training."""
    seconds = {"copy_seconds": copy_seconds, "wait_seconds": wait_seconds, "write_seconds": write_seconds}
    return asdict(at) | {"checksum": checksum, "bytes": size, **seconds, "taken_at": taken_at}
