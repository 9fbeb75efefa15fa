"""Heat maps of the kernel by class: of the first seed, at the start, where the entropy turns and at the end."""

from pathlib import Path

import numpy as np
from claimed_study import networks, study
from synthetic_study import EPOCH_STEPS, SCHEDULE, Row

from tangentscope.pipeline.report.figures import render
from tangentscope.pipeline.report.figures.kernel_maps import kernel_maps
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store import layout, tables
from tangentscope.pipeline.store.files import Storage

N = 4
TURN = SCHEDULE[len(SCHEDULE) // 2]


def entropy(run: Row, step: int) -> float:
    return 1 + abs(SCHEDULE.index(step) - SCHEDULE.index(TURN))


def kernel(run: Row, step: int) -> np.ndarray:
    factors = np.random.default_rng(step + 1000 * run["seed"]).normal(size=(N, 9))
    return factors @ factors.T


def with_kernels(root: Path, runs: list[Row]) -> Storage:
    storage = study(root, runs, entropy)
    plan = storage.read_json(layout.PLAN)
    probes = [how | {"variables": [*how["variables"], "kernel_by_class"]} for how in plan["probes"]]
    storage.write_json(layout.PLAN, plan | {"probes": probes})
    rows = [
        {
            **{"run": run["run"], "attempt": 1, "step": step, "epoch": step / EPOCH_STEPS, "checksum": "c"},
            **{"draw": draw, "probe": "test-probe", "split": "test", "outputs": "full", "recorded_at": 0.0},
            **{"variable": "kernel_by_class", "version": 1},
            "values": (kernel(run, step) * (1 if draw == 0 else -1)).flatten().tolist(),
        }
        for run in runs
        for step in SCHEDULE
        for draw in range(2)
    ]
    tables.write_part(storage, "profiles", rows, "probe")
    return storage


def test_cosines_of_the_first_seed_at_start_turn_and_end(tmp_path: Path):
    runs = networks(seeds=2, model__width=[8, 32])
    (drawing,) = kernel_maps(View(with_kernels(tmp_path, runs)))
    panels = [axes for axes in drawing.figure.axes if axes.images]
    steps = [SCHEDULE[0], TURN, SCHEDULE[-1]]
    assert [panel.get_title(loc="left").rpartition(", ")[0][4:] for panel in panels[:3]] == [
        *("width=8, start", "turn", "end"),
    ]
    firsts = [
        next(run for run in runs if run["varied"]["model.width"] == width and run["seed"] == 0) for width in (8, 32)
    ]
    for panel, (run, step) in zip(panels, [(run, step) for run in firsts for step in steps], strict=True):
        matrix = kernel(run, step)
        scale = np.sqrt(np.diag(matrix))
        np.testing.assert_allclose(panel.images[0].get_array(), matrix / np.outer(scale, scale))
    assert render(drawing.figure)["png"][:4] == b"\x89PNG"


def test_no_maps_where_no_kernels_are_kept(tmp_path: Path):
    assert kernel_maps(View(study(tmp_path, networks(seeds=1), entropy))) == []
