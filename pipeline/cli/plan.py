"""What `plan` prints: runs, probe points, kernels, bytes, time and memory, before anything starts."""

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tangentscope.pipeline.driver.costs import Estimate, estimate, side
from tangentscope.pipeline.driver.outlook import departing, outlook
from tangentscope.pipeline.probing.networks import observed
from tangentscope.pipeline.probing.points import draw_points
from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.points import inputs_of
from tangentscope.pipeline.study.runs import Run, make_runs
from tangentscope.pipeline.study.spec import Study, read_study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.pipeline.system.formatting import clock, human
from tangentscope.pipeline.training.learner import initialise, training_of
from tangentscope.probes import kernel_plan
from tangentscope.probes.kernels.plan import PER_SAMPLE

_MOST_ROWS = 40
_MOST_DATA = 10
_MOST_KERNELS = 3

_MUCH = 0.2
"""Share of a kernel's work by layers without a rule from which on they are told of."""


def tell(
    console: Console,
    path: Path,
    overrides: tuple[str, ...],
    scale: str | None,
    data_dir: Path | None,
    out: str | None = None,
) -> None:
    """Expand, validate and calibrate a study and print its plan, and what is still to be done in its output."""
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"data directory {data_dir}: not there; give the directory that holds the data sets")
    study = read_study(path, overrides, scale)
    runs = make_runs(study, data_dir, path.name)
    storage = Storage.at(out or f"results/{study.name}")
    storage.check_place()
    there = outlook(storage, study, runs) if storage.exists(layout.PLAN) else None
    console.print(_runs_table(study, runs))
    for line in _data(runs):
        console.print(line, markup=False, highlight=False)
    for line in _lines(study, runs, estimate(study, runs)):
        console.print(line, markup=False, highlight=False)
    departed = departing(storage, study, runs)
    for line in [*there.lines(), *([departed] if departed else [])] if there else ["nothing there yet: all is to do"]:
        console.print(f"output    {storage.uri}: {line}", markup=False, highlight=False)
    for run in _shapes(runs)[:_MOST_KERNELS] if study.probes.variables else ():
        console.print(f"\n{_kernel(run)}", markup=False, highlight=False)


def _runs_table(study: Study, runs: list[Run]) -> Table:
    grid = Table(title=f"{study.name}: {len(runs)} runs", title_justify="left")
    for column in ("run", "name"):
        grid.add_column(column)
    for column in ("parameters", "steps", "probe points", "kernel"):
        grid.add_column(column, justify="right")
    for run in runs[:_MOST_ROWS]:
        kernels = " ".join(dict.fromkeys(f"{p.kernel.draws}×{side(run, p)}²" for p in run.probes)) or "none"
        grid.add_row(run.id, run.name, f"{run.parameters:,}", f"{run.steps:,}", str(len(run.schedule)), kernels)
    if len(runs) > _MOST_ROWS:
        grid.add_row("…", f"and {len(runs) - _MOST_ROWS} more", "", "", "", "")
    return grid


def _data(runs: list[Run]) -> list[str]:
    sources = list(dict.fromkeys(run.data.source for run in runs))
    more = [f"… and {len(sources) - _MOST_DATA:,} more draws or sets"] if len(sources) > _MOST_DATA else []
    return [f"data      {source}" for source in [*sources[:_MOST_DATA], *more]]


def _lines(study: Study, runs: list[Run], cost: Estimate) -> list[str]:
    kernel = study.probes.kernel
    steps = runs[0].schedule
    shown = ", ".join(map(str, steps[:6])) + (f", … {steps[-1]}" if len(steps) > 6 else "")
    pools = study.resources
    features = study.probes.features
    told = f"{kernel.draws} draws of {kernel.size} points, {kernel.outputs} outputs"
    ways = [f"on {' and '.join(study.probes.splits)}: {told}"] if study.probes.variables else []
    ways += [f"features of {features.train:,} training and {features.test:,} test points"] if features else []
    return [
        f"probes    {len(steps)} steps a run ({shown}) {'; '.join(ways)}",
        f"kept      {human(cost.snapshot_bytes)} of snapshots (keep: {study.probes.keep}), "
        f"{human(cost.table_bytes)} of tables",
        f"memory    {human(cost.trainer_memory)} a training worker, {human(cost.prober_memory)} a prober",
        f"time      {clock(cost.wall)} in all: {clock(cost.start_and_end)} to start and end; at the same time "
        f"{clock(cost.training)} of training in {pools.train.groups} group(s) and {clock(cost.probing)} of probing in "
        f"{pools.probe.actors} actor(s)",
    ]


def _shapes(runs: list[Run]) -> list[Run]:
    """The first run of each network that differs in more than its numbers."""
    shapes: dict[tuple, Run] = {}
    for run in runs:
        shapes.setdefault((run.model, run.data.input_shape, run.data.outputs), run)
    return list(shapes.values())


def _kernel(run: Run) -> str:
    """How the kernel of one draw of points is computed, layer by layer."""
    kernel = run.probes[0].kernel
    network = initialise(training_of(run.planned()), run.data, torch.device("cpu")).eval()
    points = draw_points(getattr(run.data, run.probes[0].split), kernel.model_copy(update={"draws": 1}))
    memory = run.study.resources.probe.memory_bytes
    module = observed(run.task, network, run.probes[0].part)
    found = kernel_plan(module, inputs_of(points), kernel.outputs, memory_bytes=memory)
    lines = f"kernel of {run.name} ({kernel.size} points, {kernel.outputs})\n{found}"
    if found.fallback_share > _MUCH:
        without_rule = [layer.name or "(network)" for layer in found.layers if layer.path == PER_SAMPLE]
        lines += (
            f"\nwarning: no rule covers {', '.join(without_rule)}, which take {found.fallback_share:.0%} of this "
            "kernel's work: choose fewer outputs (outputs: summed) or fewer points if that is too long"
        )
    return lines
