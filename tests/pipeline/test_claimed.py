"""Claims that a study has no data for are refused when it is read, with the field that is missing."""

import pytest

from tangentscope.pipeline.report.claims import CLAIMS
from tangentscope.pipeline.study.spec import parse_study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.probes import FEATURE_VARIABLES
from tangentscope.studies import shipped

STUDY = """
name: claimed
task: {name: mnist}
model: {name: mlp, depth: 3, activation: relu}
optimiser: {name: adam}
train: {epochs: 30, batch_size: 100}
grid: {model.width: [4, 16, 64, 256]}
probes: {schedule: {kind: log, points: 40}, variables: [trace, entropy]}
"""

# What is set in the study above, the claim that is named, and the words of which one line must consist.
NEW_POINTS = "new_point_step_parameters, new_point_step_outputs"
REFUSED: dict[str, tuple[list[str], str, list[str]]] = {
    "variable": (["probes.variables=[trace]"], "compression", ["entropy", "probes.variables"]),
    "trace": (["probes.variables=[entropy]"], "fig3_dip", ["trace", "probes.variables"]),
    "split": (["probes.splits=[train]", f"probes.variables=[{NEW_POINTS}]"], "late_data", ["test split", "splits"]),
    "new points": ([], "late_data", ["new_point_step_parameters", "probes.variables"]),
    "game": (["task.name=catch", "grid={}"], "compression", ["a task with a loss", "task.name is catch"]),
    "no game": ([], "entropy_before_return", ["a game", "task.name is mnist"]),
    "features": (["probes.features.variables=[nc2]"], "mf_regime", ["kappa_cka", "probes.features.variables"]),
    "no features": ([], "one_feature_regression", ["probes.features.variables does not have"]),
    "widths": (["grid.model.width=[4, 16]"], "formation_grows_with_width", ["3 values", "model.width has 2", "grid"]),
    "same widths": (["grid.model.width=[4, 4, 16]"], "formation_grows_with_width", ["model.width has 2"]),
    "no width": (["grid={}"], "small_compress_large_form", ["2 values of model.width or model.dim", "has 0"]),
    "width as text": (["grid={model.width: [a, b, c]}"], "formation_grows_with_width", ["model.width has 0"]),
    "depths": ([], "fig2_start", ["2 values of model.depth", "has 0"]),
    "activation": (["grid.model.depth=[2, 4]"], "fig2_end", ["model.activation tanh", "grid or zip"]),
    "trainings": ([], "persistence", ["optimiser, model.init, train.batch_size"]),
    "one training": (["grid.train.batch_size=[32]"], "persistence", ["several values"]),
    "epochs": (["probes.schedule={every: {epochs: 1}}"], "resolution", ["within the first epoch", "probes.schedule"]),
}  # fmt: skip


def read(overrides: list[str], claims: str) -> None:
    parse_study(STUDY, "claimed.yaml", (*overrides, f"report.claims=[{claims}]"))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_missing_is_said_on_one_line(name: str):
    overrides, claim, words = REFUSED[name]
    with pytest.raises(UserError, match=rf"^claimed\.yaml: report\.claims: {claim} needs ") as caught:
        read(overrides, claim)
    assert "\n" not in str(caught.value)
    assert "leave the claim out" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("overrides", [
    ["optimiser={}", "grid.optimiser=[{name: adam}, {name: sgd, lr: 0.1}]"],
    ["grid.train.batch_size=[32, 64]"],
    ["grid.optimiser.lr=[0.1, 0.01]"],
])  # fmt: skip
def test_any_change_of_the_training_does_for_persistence(overrides: list[str]):
    read(overrides, "persistence")


def test_a_claim_named_twice_is_refused():
    with pytest.raises(UserError, match="once"):
        read([], "compression, compression")


def test_a_study_that_has_all_of_it_is_read():
    needed = {name for claim in CLAIMS.values() for name in claim.needs.variables}
    of_features = needed & {*FEATURE_VARIABLES}
    read(["grid.model.width=[4, 8, 16, 32, 64, 128]", "grid.model.depth=[2, 4, 8]",
          "grid.model.activation=[relu, tanh]", "grid.model.batch_norm=[true, false]",
          "grid.train.batch_size=[32, 64]", "grid.train.trainable=[all, last]",
          "grid.task.target_scale=[1, 0.01]", "grid.task.replaced=[0, 0.5, 0.9]",
          "grid.task.train_size=[100, 200, 400, 800, 1600]", "grid.optimiser.lr=[0.1, 0.2, 0.3]",
          "grid.optimiser.weight_decay=[0, 0.1, 0.2]", f"probes.features.variables={sorted(of_features)}",
          f"probes.variables={sorted(needed - of_features)}"],
         ", ".join(name for name, claim in CLAIMS.items() if not claim.needs.plays))  # fmt: skip


def test_every_claim_is_named_by_a_shipped_study():
    named: set[str] = set()
    for path in shipped().values():
        named |= {*parse_study(path.read_text(), path.name).report.claims}
        if "small:" in path.read_text():
            parse_study(path.read_text(), path.name, scale="small")
    assert named == {*CLAIMS}
