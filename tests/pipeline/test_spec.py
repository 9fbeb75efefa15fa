import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tangentscope.models import MODELS
from tangentscope.pipeline.report.claims import CLAIMS
from tangentscope.pipeline.report.figures import FIGURES
from tangentscope.pipeline.study.runs import make_runs
from tangentscope.pipeline.study.spec import Study, read_study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.probes import VARIABLES
from tangentscope.studies import shipped
from tangentscope.tasks import TASKS

QUICKSTART = yaml.safe_load(shipped()["quickstart"].read_text())


def read(folder: Path, *overrides: str, scale: str | None = None, text: str | None = None, **changes: Any) -> Study:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(copy.deepcopy(QUICKSTART) | changes) if text is None else text)
    return read_study(file, overrides, scale)


def complaint(folder: Path, *overrides: str, **changes: Any) -> str:
    """The one line about a study that is wrong, wherever on the way to its runs that is noticed."""
    with pytest.raises(UserError) as caught:
        make_runs(read(folder, *overrides, **changes), None, "mine.yaml")
    line = str(caught.value)
    assert "\n" not in line
    return line


# Twelve lines of ten aliases each, in lists and as merged mappings.
TENS = {k: ", ".join([f"*a{k - 1}"] * 10) for k in range(1, 12)}
BOMB = "\n".join([f"a0: &a0 [{', '.join('1' * 10)}]", *(f"a{k}: &a{k} [{ten}]" for k, ten in TENS.items())])
MERGED_BOMB = "\n".join(["a0: &a0 {b: 1}", *(f"a{k}: &a{k} {{<<: [{ten}]}}" for k, ten in TENS.items())])

# What to change in the quickstart, the place that the message starts with, and what else must stand in it.
WRONG: dict[str, tuple[tuple[str, ...], str, list[str]]] = {
    "top": (("sead=3",), "sead", ["unknown key", "report", 'did you mean "seeds"?']),
    "nested": (("probes.kernal.size=3",), "probes.kernal", ["unknown key", "splits", 'did you mean "kernel"?']),
    "nested twice": (("probes.kernel.sise=3",), "probes.kernel.sise", ["draws", 'did you mean "size"?']),
    "in a schedule": (("probes.schedule={every: {epoch: 1}}",), "probes.schedule.every.epoch", ['mean "epochs"?']),
    "in a pool": (("resources.train.worker=2",), "resources.train.worker", ['did you mean "workers"?']),
    "model's field": (("model.widht=3",), "model.widht", ["activation", 'did you mean "width"?']),
    "varied field": (("grid.model.widht=[3]",), "model.widht", ["unknown key", 'did you mean "width"?']),
    "train's field": (("train.epoch=3",), "train.epoch", ['did you mean "epochs"?']),
    "rate schedule's": (("optimiser.schedule.nme=cosine",), "optimiser.schedule.nme", ['did you mean "name"?']),
    "task": (("task.name=mnst",), "task.name", ['"mnst" unknown', f"allowed: {min(TASKS)}", 'did you mean "mnist"?']),
    "model": (("model.name=mpl",), "model.name", ['"mpl" unknown', 'did you mean "mlp"?']),
    "optimiser": (("optimiser.name=adan",), "optimiser.name", ["adam, adamw", "sgd", 'did you mean "adam"?']),
    "varied name": (("grid.optimiser.name=[adam, sdg]",), "optimiser.name", ['did you mean "sgd"?']),
    "name is a list": (("optimiser.name=[adam]",), "optimiser.name", ["unknown", "allowed: adam"]),
    "no name": (("model={width: 3}",), "model", ["'width': 4", "a name", f"allowed: {min(MODELS)}"]),
    "no mapping": (("task=mnist",), "task", ["got 'mnist'"]),
    "variable": (
        ("probes.variables=[entrpy]",),
        "probes.variables",
        [f"allowed: {min(VARIABLES)}", 'mean "entropy"?'],
    ),
    "figure": (("report.figures=[curvs]",), "report.figures", [*FIGURES, 'did you mean "curves"?']),
    "claim": (("report.claims=[actor_jump_most]",), "report.claims", [*CLAIMS, 'did you mean "actor_jumps_most"?']),
    "kernel": (("probes.kernel.outputs=ful",), "probes.kernel.outputs", ["got 'ful'", "'traced'"]),
    "variable twice": (
        ("probes.variables=[trace, trace]",),
        "probes.variables",
        ["once", "trace"],
    ),
    "split twice": (("probes.splits=[test, test]",), "probes.splits", ["once", "test"]),
    "no splits": (("probes.splits=[]",), "probes.splits", ["got []"]),
    "width 0": (("grid.model.width=[8, 0]",), "model.width", ["got 0", "greater than or equal to 1"]),
    "no epochs": (("train.epochs=0",), "train.epochs", ["got 0", "greater than 0"]),
    "endless": (("train.epochs=.inf",), "train.epochs", ["got inf", "finite"]),
    "not a number": (("optimiser.lr=.nan",), "optimiser.lr", ["got nan", "finite"]),
    "batch 0": (("train.batch_size=0",), "train.batch_size", ["got 0", "greater than or equal to 1", "'full'"]),
    "batch": (("train.batch_size=ful",), "train.batch_size", ["got 'ful'", "valid integer", "'full'"]),
    "nesterov": (("optimiser={name: sgd, lr: 1, nesterov: true}",), "optimiser", ["momentum: 0.9"]),
    "summed": (
        ("probes.kernel.outputs=summed", "probes.variables=[trace, kinetic_energy]"),
        "probes.variables",
        ["kinetic_energy is defined for outputs=full, got summed", "leave kinetic_energy out"],
    ),
    "little memory": (("resources.probe.memory_bytes=1",), "resources.probe.memory_bytes", ["got 1", "1048576"]),
    "label": (("resources.train.labels.pool=-gpu",), "resources.train.labels.pool", ["got '-gpu'"]),
    "label's name": (("resources.probe.labels={a pool: b}",), "resources.probe.labels.a pool", ["got 'a pool'"]),
    "labels as text": (("resources.train.labels=pool",), "resources.train.labels", ["got 'pool'", "dictionary"]),
    "study name": (("name=a/b",), "name", ["got 'a/b'"]),
    "empty grid list": (("grid.model.width=[]",), "grid.model.width", ["empty", "at least one value"]),
    "empty zip list": (("zip.optimiser.lr=[]",), "zip.optimiser.lr", ["empty"]),
    "grid not a list": (("grid.model.width=3",), "grid.model.width", ["got 3", "list"]),
    "grid elsewhere": (("grid.probes.keep=[all]",), "grid.probes.keep", ["task, model, optimiser, train"]),
    "unequal zip": (("zip={model.depth: [1, 2], optimiser.lr: [1]}",), "zip", ["'model.depth': 2", "equal"]),
    "grid and zip": (("zip.model.width=[1, 2]",), "model.width", ["in grid and in zip"]),
    "below a value": (("name.x=3",), "name.x", ["holds 'quickstart'", "no mapping"]),
    "seeds 0": (("seeds=0",), "seeds", ["got 0", "greater than or equal to 1"]),
    "seeds < 0": (("seeds=-1",), "seeds", ["got -1", "greater than or equal to 1"]),
    "a seed < 0": (("seeds=[0, -1]",), "seeds.1", ["got -1", "greater than or equal to 0"]),
    "no seeds": (("seeds=[]",), "seeds", ["got []", "at least 1"]),
    "seed twice": (("seeds=[0, 0]",), "seeds", ["each may stand once, got 0, 0"]),
    "a seed beyond": (("seeds=[9223372036854775807, 0.5]",), "seeds.1", ["got 0.5"]),
    "many runs": (
        ("grid.model.width=[1, 2]", "seeds=10001"),
        "max_runs",
        ["20,002 runs", "20,000 at most", "raise it"],
    ),
    "runs without end": (("seeds=999999999999999999",), "max_runs", ["got 3,999,999,999,999,999,996 runs"]),
    "above its own bound": (("max_runs=3",), "max_runs", ["got 4 runs", "expected 3 at most"]),
    "many draws": (("probes.kernel.draws=100001",), "probes.kernel.draws", ["got 100001", "100000"]),
    "many points": (("probes.schedule.points=100001",), "probes.schedule.points", ["got 100001"]),
    "always": (("probes.schedule={every: {steps: 1}}", "train.epochs=99999"), "probes.schedule", ["1,000,000 at most"]),
    "kept always": (("probes.snapshots={every: {steps: 1}}", "train.epochs=99999"), "probes.snapshots", ["at most"]),
    "evaluated always": (("train.evaluate_every=0.00001", "train.epochs=99999"), "train.evaluate_every", ["at most"]),
    "a long training": (("train.epochs=1.0e+300",), "train: got", ["steps, expected 1,000,000,000 at most"]),
    "a deep network": (("model.depth=10001",), "model.depth", ["got 10001", "10000"]),
    "a wide network": (("grid={}", "model.width=4611686018427387904"), "model mlp", ["cannot be built", "smaller"]),
    "a large network": (("grid={}", "model.width=100000000"), "model mlp", ["more than any machine holds"]),
    "many workers": (("resources.train.workers=10001",), "resources.train.workers", ["got 10001"]),
    "a rate beyond": (("optimiser.lr=1.0e+39",), "optimiser.lr", ["got 1e+39", "less than or equal to"]),
    "a decay beyond": (("optimiser.weight_decay=1.0e+39",), "optimiser.weight_decay", ["got 1e+39"]),
    "a wide margin": (("task.pad=101",), "task.pad", ["got 101"]),
    "log alone": (("probes.schedule={kind: log}",), "probes.schedule", ["{kind: log, points: 40}"]),
    "points alone": (("probes.schedule={points: 4}",), "probes.schedule", ["both kind and points"]),
    "one point": (("probes.schedule={kind: log, points: 1}",), "probes.schedule.points", ["got 1"]),
    "log and at": (("probes.schedule={kind: log, points: 4, at: [1]}",), "probes.schedule", ["give one of"]),
    "every and at": (("probes.schedule={every: {steps: 4}, at: [1]}",), "probes.schedule", ["give one of"]),
    "no schedule": (("probes.schedule={}",), "probes.schedule", ["give one of"]),
    "epochs and steps": (("probes.schedule={every: {epochs: 1, steps: 2}}",), "probes.schedule.every", ["either"]),
    "every nothing": (("probes.schedule={every: {}}",), "probes.schedule.every", ["epochs or steps"]),
    "every 0": (("probes.schedule={every: {steps: 0}}",), "probes.schedule.every.steps", ["got 0"]),
    "at < 0": (("probes.schedule={at: [0, -1]}",), "probes.schedule.at.1", ["got -1"]),
    "draw too large": (("probes.kernel.size=1001",), "probes.kernel.size", ["got 1001", "test split", "1000"]),
    "too few data": (("task.train_size=9999999",), "task mnist", ["9,999,999", "4,000"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_line_says_what_is_wrong_with_a_study(name: str, tmp_path: Path):
    overrides, place, said = WRONG[name]
    line = complaint(tmp_path, *overrides)
    assert line.startswith(f"mine.yaml: {place}: ") or line.startswith(f"mine.yaml: {place} ")
    assert [text for text in said if text not in line] == []
    assert "constrained" not in line, "pydantic's names for types are nobody else's"


def test_three_wrong_places_are_told_at_once(tmp_path: Path):
    line = complaint(tmp_path, text="name: mine")
    assert [f"{part}: missing" in line for part in ("task", "model", "optimiser")] == [True] * 3


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "empty": ("", "mine.yaml: empty; a study needs name, task"),
        "comment": ("# soon", "mine.yaml: empty"),
        "list": ("- name: mine", "mine.yaml: no mapping"),
        "word": ("mine", "mine.yaml: no mapping"),
        "unclosed": ("name: a\ntask: [\nmodel: 3", "mine.yaml: no YAML at line 3: "),
        "tab": ("name:\n\t- a", "mine.yaml: no YAML at line 2: "),
        "twice": ("name: a\nseeds: 1\nname: b", 'mine.yaml: no YAML at line 3: "name" stands twice'),
        "no plain key": ("name: a\ngrid: {[1, 2]: [3]}", "mine.yaml: no YAML at line 2: a key must be plain text"),
        "control": ("name: \x01", "mine.yaml: no YAML: "),
        "number as key": ("3: 4", "mine.yaml: "),
        "deep": ("name: " + "[" * 5000, "mine.yaml: no YAML: nested too deeply"),
        "deeper than a study": ("name: " + "[" * 60 + "]" * 60, "nested too deeply, expected 50 levels at most"),
        "deep and open": ("a: &a " + "{b: " * 60 + "1" + "}" * 60, "no YAML: nested too deeply"),
        "anchor in itself": ("name: a\nscales: &x\n  small: *x", "no YAML at line 2: an anchor is used within itself"),
        "anchor in its list": ("grid: {model.width: &x [1, *x]}", "no YAML at line 1: an anchor is used within itself"),
        "aliases of aliases": (BOMB, "no YAML: got about 10^12 values once all aliases are written out"),
        "merged aliases": (MERGED_BOMB, "values once all aliases are written out, expected 200,000 at most"),
        "long": ("# " + "a" * 2_000_001, "no YAML: got 2,000,003 characters, expected 2,000,000 at most"),
        "huge integer": ("name: a\nseeds: " + "9" * 30, "no YAML at line 2: an integer beyond 2**63 - 1"),
        "integer of many digits": ("seeds: " + "9" * 9999, "no YAML at line 1: an integer beyond 2**63 - 1"),
        "no such day": ("name: 2020-13-45", "mine.yaml: no YAML: month must be in 1..12"),
        "line end in a key": ('"a\\nb": 3', "a b: unknown key"),
    }.values(),
)
def test_a_file_that_is_no_study(text: str, said: str, tmp_path: Path):
    assert said in complaint(tmp_path, text=text)


def test_a_file_of_bytes_and_one_that_is_not_there(tmp_path: Path):
    (tmp_path / "image.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match=r"image\.yaml: no YAML"):
        read_study(tmp_path / "image.yaml")
    for missing in (tmp_path / "other.yaml", tmp_path):
        with pytest.raises(UserError, match="give a YAML file"):
            read_study(missing)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs", "expected key=value, e.g. train.epochs=5"),
        ("=5", "expected key=value"),
        ("train.epochs=[1", "no YAML"),
        ("train.epochs=" + "[" * 5000, "no YAML: nested too deeply"),
        ("train.epochs=" + "9" * 30, "no YAML at line 1: an integer beyond"),
    ],
)
def test_an_override_that_is_none(override: str, said: str, tmp_path: Path):
    line = complaint(tmp_path, override)
    assert line.startswith(f'override "{override}"')
    assert said in line


def test_overrides_take_numbers_text_lists_and_mappings(tmp_path: Path):
    study = read(
        tmp_path,
        "train.epochs=5",
        "name=other",
        "seeds=[3, 5]",
        "train.batch_size=full",
        "probes.kernel={draws: 2, size: 10}",
        "grid.optimiser.lr=[0.1, 1e-3]",
        "zip.model.depth=[2, 3]",
        "report.x=step",
    )
    assert study.train == {"epochs": 5, "batch_size": "full"}
    assert (study.name, study.seed_list, study.report.x) == ("other", [3, 5], "step")
    assert (study.probes.kernel.draws, study.probes.kernel.size, study.probes.kernel.outputs) == (2, 10, "full")
    assert study.grid == {"model.width": [4, 16, 64, 256], "optimiser.lr": [0.1, "1e-3"]}
    assert study.zip == {"model.depth": [2, 3]}
    assert read(tmp_path, "grid={}").grid == {}


def test_what_an_alias_stands_for_is_a_value_of_its_own(tmp_path: Path):
    rest = {key: value for key, value in QUICKSTART.items() if key not in ("model", "grid")}
    text = f"{yaml.safe_dump(rest)}model: &model {{name: mlp, width: 4}}\ngrid: {{model: [*model]}}\n"
    text += "scales:\n  a: &fields {train.epochs: 1}\n  b: *fields\n"
    study = read(tmp_path, "model.width=7", "scales.a={train.epochs: 2}", text=text)
    assert (study.model["width"], study.grid["model"][0]["width"]) == (7, 4)
    assert study.scales == {"a": {"train.epochs": 2}, "b": {"train.epochs": 1}}


def test_an_overriding_value_may_hold_an_equals_sign(tmp_path: Path):
    assert "got 'a=b'" in complaint(tmp_path, "name=a=b")


def test_a_scale_lies_over_the_file_and_overrides_over_the_scale(tmp_path: Path):
    scales = {"small": {"train.epochs": 2, "grid.model.width": [4], "seeds": 2}}
    study = read(tmp_path, "seeds=5", scale="small", scales=scales)
    assert (study.train["epochs"], study.grid["model.width"], study.seeds) == (2, [4], 5)
    assert read(tmp_path, scales=scales).train["epochs"] == 30


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ({"small": {"train.epochs": 1}}, 'scale "smal" unknown; allowed: small; did you mean "small"?'),
        ({}, 'scale "smal" unknown; it has none'),
        (["smal"], "scales: expected a mapping"),
        ({"smal": 3}, "scales: expected a mapping"),
        (3, "scales: expected a mapping"),
        ("smal", "scales: expected a mapping"),
        ({3: {"train.epochs": 1}}, 'scale "smal" unknown; allowed: 3'),
    ],
)
def test_a_scale_that_the_study_does_not_have(scales: Any, said: str, tmp_path: Path):
    assert said in complaint(tmp_path, scale="smal", scales=scales)


def test_seeds_are_a_number_or_a_list(tmp_path: Path):
    assert read(tmp_path, "seeds=3").seed_list == [0, 1, 2]
    assert read(tmp_path, "seeds=[7, 0]").seed_list == [7, 0]


@pytest.mark.parametrize("form", ["kind: log, points: 9", "every: {epochs: 0.5}", "every: {steps: 9}", "at: [9]"])
def test_every_form_of_schedule_is_read(form: str, tmp_path: Path):
    schedule = read(tmp_path, f"probes.schedule={{{form}}}").probes.schedule
    assert schedule.model_dump(mode="json", exclude_none=True) == yaml.safe_load(f"{{{form}}}")
