"""Every shipped study plans at each of its scales, trains, is measured and, marked slow, runs as a whole."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from published_files import write_batches, write_cars, write_hundred, write_idx, write_molecules, write_treebank
from torch import nn

from tangentscope import pipeline
from tangentscope.pipeline.cli import listing
from tangentscope.pipeline.probing.features import measure_features
from tangentscope.pipeline.probing.networks import observed as observed_of
from tangentscope.pipeline.probing.points import draw_feature_points, draw_points
from tangentscope.pipeline.store.points import inputs_of
from tangentscope.pipeline.study.runs import Run, make_runs
from tangentscope.pipeline.study.spec import read_study
from tangentscope.pipeline.training.learner import initialise, training_of
from tangentscope.pipeline.training.loop import train
from tangentscope.probes import givens_of, kernel_plan, measure
from tangentscope.probes.kernels.plan import PER_SAMPLE
from tangentscope.studies import shipped
from tangentscope.tasks import TASKS, Game, Split

STUDIES = shipped()
WRITTEN = {name: yaml.safe_load(path.read_text()) for name, path in STUDIES.items()}
SCALES = [(name, scale) for name, study in WRITTEN.items() for scale in (None, *study.get("scales", {}))]
# Each study once, as small as it ships.
SMALL = [(name, "small" if "small" in study.get("scales", {}) else None) for name, study in WRITTEN.items()]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic data in the published layouts, as many as the studies' kernels take."""
    folder = tmp_path_factory.mktemp("data")
    write_idx(folder / "mnist/MNIST/raw", 600, 60)
    write_idx(folder / "fashion_mnist/FashionMNIST/raw", 60, 60)
    write_batches(folder / "cifar10/cifar-10-batches-py", 300)
    write_hundred(folder / "cifar100/cifar-100-python")
    write_cars(folder / "auto_mpg")
    write_molecules(folder / "molecules/tox21", 120)
    write_molecules(folder / "molecules/molpcba", 120, labels=32)
    write_treebank(folder / "ud_grc/UD_Ancient_Greek-PTNK")
    return folder


# What synthetic data need: by task, the fields that a study may have set for the real ones; made-up tasks need none.
ASKED: dict[str, dict[str, Any]] = {
    "mnist_vae": {"train_size": 60, "test_size": 50, "source": "auto"},
    "mnist": {"train_size": 60, "test_size": 50, "source": "auto"},
    "fashion_mnist": {"train_size": 60, "test_size": 50},
    "cifar10": {"train_size": 60, "test_size": 50, "partial": True},
    "cifar100": {"test_size": 2, "partial": True},
    "auto_mpg": {"source": "mlxtend"},
    "molecules": {"train_size": 60, "valid_size": 20, "test_size": 40, "partial": True},
    "greek": {"partial": True},
    "catch": {},
    "atari": {"games": 2},
    "step": {"train_size": 60, "test_size": 50},
    "sparse_parity": {"train_size": 60, "test_size": 50},
}
MANY = 50  # points in a kernel
# Synthetic images are fewer than features, which cuts off what a study's claims are about.
FEW = ("probes.features.train=2", "probes.features.test=2", "probes.features.variables=[kappa_cka]", "report.claims=[]")
FULL = [name for name, study in WRITTEN.items() if study.get("train", {}).get("batch_size") == "full"]
# What is learned by playing is trained by RLlib: tests/ray/test_games_learned.py has more of it.
PLAYED = [
    name for name, study in WRITTEN.items() if issubclass(TASKS[study.get("task", {}).get("name", "mnist")], Game)
]
TRAINED = [(name, scale) for name, scale in SMALL if name not in PLAYED]


def runs_of(name: str, scale: str | None, data_dir: Path, *overrides: str) -> list[Run]:
    fields = (*asked(name, scale), *overrides)
    return make_runs(read_study(STUDIES[name], fields, scale), data_dir, f"{name}.yaml")


def asked(name: str, scale: str | None) -> Iterator[str]:
    """Overrides by which a study takes the synthetic data, whether its task is one or varied."""
    study = WRITTEN[name]
    places = dict(study)
    for each in (study, study["scales"][scale] if scale else {}):
        places |= each
        places |= {f"{kind}.{key}": value for kind in ("grid", "zip") for key, value in each.get(kind, {}).items()}
    for place in ("grid.task", "zip.task"):
        if place in places:
            yield f"{place}={json.dumps([few(task) for task in places[place]])}"
    if task := places.get("task"):
        sizes = few(task) if "name" in task else {}
        varied = {key.partition("task.")[2] for key in places if key.startswith(("grid.task.", "zip.task."))}
        yield from (f"task.{key}={json.dumps(value)}" for key, value in sizes.items() if key not in varied)
    for place in ("grid.task.train_size", "zip.task.train_size"):
        if size := places.get(place):
            yield f"{place}={[20 + 5 * number for number in range(len(size))]}"
    if study["probes"].get("kernel", {}).get("size", 0) > MANY:
        yield f"probes.kernel.size={MANY}"
    if epochs := places.get("zip.train.epochs"):
        yield f"zip.train.epochs={[0.01] * len(epochs)}"
    yield from FEW if "features" in study["probes"] else ()


def few(task: dict[str, Any]) -> dict[str, Any]:
    """A task of the synthetic data, of which there are few of a class."""
    return task | ASKED.get(task["name"], {}) | ({"train_size": None, "per_class": 10} if "per_class" in task else {})


def by_network(runs: list[Run]) -> list[Run]:
    """One run of each network."""
    return list({run.model: run for run in runs}.values())


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_a_shipped_study_plans(name: str, scale: str | None, data_dir: Path):
    runs = runs_of(name, scale, data_dir)
    assert len({run.name for run in runs}) == len(runs)
    assert all(run.schedule[0] == 0 and run.schedule[-1] == run.steps for run in runs)
    assert all(run.parameters > 0 for run in runs), "every network can be built"


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_says_what_it_is(name: str):
    study = read_study(STUDIES[name])
    assert study.name == name
    line = dict(listing.entries("studies"))[name]
    assert 40 < len(line) <= 118
    if name.startswith("cv-fig"):
        assert re.match(r"CV fig\. \d", line)
        assert "small" in study.scales
        assert len(study.seed_list) >= 5, "the claims are decided over seeds"


def test_a_scan_varies_one_field_at_a_time(data_dir: Path):
    scans = [name for name in STUDIES if name.startswith("cv-") and read_study(STUDIES[name]).zip]
    assert len(scans) >= 3
    for name, scale in [(name, scale) for name, scale in SCALES if name in scans]:
        networks = list(dict.fromkeys(tuple(map(str, run.varied.values())) for run in runs_of(name, scale, data_dir)))
        base = max(networks, key=lambda one: sum(differ(one, other) <= 1 for other in networks))
        assert all(differ(base, other) <= 1 for other in networks), name
        for field in range(3):
            assert len({network[field] for network in networks}) >= 2


def differ(one: tuple, other: tuple) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


# State spaces' modes enter by their powers, for which there can be no rule; they are few.
WITHOUT_RULES = {"_Responses"}
TINY = ("train.epochs=0.01", "train.batch_size=4", "probes.kernel.draws=2", "probes.kernel.size=2", "seeds=1")
PLAYED_TINY = ("train.iterations=1", "train.batch_size=256", "train.evaluate_games=1", *TINY[2:])


def tiny(name: str) -> tuple[str, ...]:
    """A step on a few points; solvers take all points, and many steps at once."""
    if name in PLAYED:
        return PLAYED_TINY
    return tuple(field for field in TINY if "batch_size" not in field or name not in FULL)


def of_each_kind(runs: list[Run]) -> list[Run]:
    """One run of each architecture."""
    return list({type(run.model): run for run in runs}.values())


@pytest.mark.parametrize(
    "chosen",
    [pytest.param(of_each_kind, id="of each kind"), pytest.param(by_network, id="all", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(("name", "scale"), TRAINED)
def test_every_network_of_a_small_study_trains_and_is_measured(
    name: str, scale: str | None, chosen: Callable[[list[Run]], list[Run]], data_dir: Path
):
    torch.set_num_threads(1)
    for run in chosen(runs_of(name, scale, data_dir, *tiny(name))):
        data = run.data
        if name not in FULL:
            data = replace(data, train=first(data.train), test=first(data.test))
        module, costs = train(training_of(run.planned()), data, None)
        assert costs.steps == run.steps == 1
        if run.features is not None:
            features_are_measured(run, run.task.observed(module))
        if not run.probes:
            continue
        points = draw_points(run.data.test, run.study.probes.kernel)
        kernel, observed, inputs = run.study.probes.kernel.outputs, run.task.observed(module), inputs_of(points)
        variables = run.study.probes.variables
        needs_labels = any(givens_of(name) & {"labels", "classes"} for name in variables)
        given = {"targets": points["targets"], "loss": run.task.observed_loss} if needs_labels else {}
        if any("initial_kernel" in givens_of(name) for name in variables):
            given |= {"initial": observed, "previous": observed, "previous_step": 0}
        measured = measure(observed, inputs, points["draws"], kernel, variables, **given)
        found = {**measured.values, **measured.profiles}
        assert set(found) == set(run.study.probes.variables)
        # Two points of ten thousand skills may be none of those that a model has: their kernel is zero.
        traces = found.get("trace", np.ones(2))
        assert all(np.isfinite(values[traces != 0]).all() for values in found.values())
        if "layer_traces" in found:
            assert found["layer_traces"].shape[1] == len(run.planned().layers)
        layers = kernel_plan(observed, inputs, kernel).layers
        assert {layer.kind for layer in layers if layer.path == PER_SAMPLE} <= WITHOUT_RULES


def features_are_measured(run: Run, module: nn.Module) -> None:
    """All that the study as written measures of them, or why few points leave it undefined."""
    names = WRITTEN[run.study.name]["probes"]["features"]["variables"]
    assert run.features is not None
    points = draw_feature_points(run.data.train, run.data.test, run.features.points)
    for part in module.modules():
        part.training = False
    found = measure_features(module, points, inputs_of, None, 2**28, variables=names)
    assert {*found.values, *found.profiles} == set(names)
    assert np.isfinite(found.mean("kappa_cka")) or found.reasons["kappa_cka"]


@pytest.mark.parametrize("name", PLAYED)
def test_the_network_of_a_small_study_of_a_game_is_measured(name: str, data_dir: Path):
    torch.set_num_threads(1)
    (run,) = runs_of(name, "small", data_dir, "probes.kernel.draws=2", "probes.kernel.size=2")
    assert run.snapshots == [*range(run.steps + 1)], "the jump is one iteration wide"
    network = initialise(training_of(run.planned()), run.data, torch.device("cpu")).eval()
    for probe in run.probes:
        points = draw_points(run.data.train, probe.kernel)
        module = observed_of(run.task, network, probe.part)
        measured = measure(module, points["inputs"], points["draws"], "full", probe.variables)
        assert all(torch.isfinite(torch.tensor(measured.mean(v))) for v in probe.variables)
        layers = kernel_plan(module, points["inputs"], "full").layers
        assert [layer.name for layer in layers if layer.path == PER_SAMPLE] == []


def first(split: Split) -> Split:
    return split.take(torch.arange(8))


# All of them take a quarter of an hour; our own game is the one that nothing else runs as a study.
RUN = [(*study, () if study[0] == "rl-catch" else pytest.mark.slow) for study in SMALL]


@pytest.mark.ray
@pytest.mark.parametrize(("name", "scale"), [pytest.param(*study, marks=marks) for *study, marks in RUN])
def test_a_shipped_study_runs(name: str, scale: str | None, data_dir: Path, tmp_path: Path):
    fields = [*asked(name, scale), *tiny(name), "probes.schedule={at: [1]}"]
    options = ["--data-dir", data_dir, "--out", tmp_path, "--offline", *(["--scale", scale] if scale else [])]
    command = [sys.executable, "-m", "tangentscope", "run", name, *fields, *map(str, options)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, (done.stdout, done.stderr)
    measured = pipeline.load(tmp_path)
    runs = runs_of(name, scale, data_dir, *tiny(name))
    planned = sum(len(probe.planned().variables) for run in runs for probe in run.every_probe)
    assert len(measured) == 2 * planned, "steps, runs, probes, variables"
    assert set(measured["run"]) == {run.id for run in runs}
    assert (tmp_path / "report.html").exists()
