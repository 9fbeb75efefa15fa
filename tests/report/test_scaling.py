"""Power laws, breaks, claims and figures of BSC on made-up ensembles of several widths and data sizes."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from claimed_study import decided, networks, study
from synthetic_study import STEPS, Row

from tangentscope.pipeline.report.derived import rows, scalings
from tangentscope.pipeline.report.figures import FIGURES
from tangentscope.pipeline.report.page import write_report
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store.files import Storage
from tangentscope.probes.trajectories.break_point import BrokenPowerLaw
from tangentscope.probes.trajectories.resampling import Estimate

WIDTHS = [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
VARIABLES = ("trace", "effective_rank_cosine", "label_alignment", "misalignment_subspace_step")
BREAK = 400.0
EXPONENTS = {"loss": -0.5, "start": 0.9}


def size(run: Row) -> float:
    varied = run["varied"]
    return float(varied.get("model.width", varied.get("task.train_size", 8)))


def own(run: Row, noise: float = 0.02) -> float:
    """What sets a seed apart, at each size."""
    return math.exp(noise * math.sin(12.9898 * run["seed"] + 78.233 * math.log(size(run))))


def broken(before: float, after: float, run: Row, place: float = BREAK) -> float:
    law = BrokenPowerLaw(Estimate(place), Estimate(before), Estimate(after), 0.0, 0.2)
    return float(law(np.array([size(run)]))[0])


def done(step: int) -> float:
    return math.log1p(step) / math.log1p(STEPS)


def loss(run: Row, split: str, step: int) -> float:
    if split == "train":
        return math.exp(1 - 3 * done(step))
    return 30 * size(run) ** EXPONENTS["loss"] * own(run) * (2 - done(step))  # least at the end


def trace(run: Row, step: int) -> float:
    start = 10 * size(run) ** EXPONENTS["start"] * own(run)
    return start * (1 + 3 * broken(0.0, -0.7, run) * done(step))


def rank(run: Row, step: int) -> float:
    return 100 - (100 - 3 * broken(0.4, 0.0, run)) * done(step)


def others() -> dict:
    return {
        "effective_rank_cosine": rank,
        "label_alignment": lambda run, step: 0.3 + 0.05 * done(step),
        "misalignment_subspace_step": lambda run, step: math.nan if step == 0 else 1 - 0.8 * done(step),
    }


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    runs = networks(seeds=5, model__width=WIDTHS)
    return study(tmp_path_factory.mktemp("scaled"), runs, trace=trace, loss=loss, variables=VARIABLES, others=others())


def found(storage: Storage, name: str):
    (row,) = [row for row in rows(View(storage)) if row.quantity == name]
    return row


def test_exponents_and_breaks_are_those_made_up(scaled: Storage):
    view = View(scaled)
    of = {row.quantity: row for row in rows(view) if row.run is None}
    assert of["exponent_of_test_loss_least_by_width"].value == pytest.approx(-0.5, abs=0.01)
    assert of["exponent_of_trace_initial_by_width"].value == pytest.approx(0.9, abs=0.01)
    for quantity in ("trace_ratio", "effective_rank_cosine_at_least_test_loss"):
        row = of[f"break_of_{quantity}_by_width"]
        assert row.low <= BREAK * 1.02
        assert row.high >= BREAK * 0.98
        assert row.value == pytest.approx(BREAK, rel=0.15)
    assert of["exponent_of_trace_ratio_by_width_above_break"].value == pytest.approx(-0.7, abs=0.05)
    assert of["log2_ratio_of_breaks"].value == pytest.approx(0, abs=0.2)
    (scaling,) = scalings(view)
    assert scaling.ensemble.members == tuple(f"seed={seed}" for seed in range(5))


def test_runs_out_of_time_are_counted(scaled: Storage):
    row = found(scaled, "runs_out_of_time_by_width")
    assert row.value == 55, "all: fifty epochs are no four hundred"
    assert "outside of epochs 400 to 1000 at width 4 (5 of 5), 8 (5 of 5)" in row.text


def verdicts(storage: Storage, claim: str) -> dict[str, str]:
    return {finding.statement: finding.verdict for finding in decided(storage, claim)}


def test_claims_of_width(scaled: Storage):
    told = verdicts(scaled, "bsc_model_exponents")
    assert told["Power law of the least test loss in width"] == "held"
    assert told["Power law of the Tr Θ₀ in width"] == "held"
    assert told["Power law of the effective rank in width"] == "held"
    assert told["Power law of the adaptation rate in width"] == "failed", "it grows with the trace here"
    assert set(verdicts(scaled, "bsc_dynamics").values()) == {"held"}


def test_claims_of_the_transition(scaled: Storage):
    told = verdicts(scaled, "bsc_transition")
    assert told["Width at which the effective rank turns"] == "held"
    assert told["Width at which the trace ratio turns"] == "held"
    assert told["Rank and trace ratio turn at the same width"] == "held"
    (finding,) = [each for each in decided(scaled, "bsc_transition") if "same width" in each.statement]
    assert finding.interval == (finding.together.low, finding.together.high)
    assert len(finding.values) == 5


def test_of_three_layers_the_rank_is_to_turn_first(tmp_path: Path):
    def early(run: Row, step: int) -> float:
        return 100 - (100 - 3 * broken(0.4, 0.0, run, place=BREAK / 4)) * done(step)

    runs = networks(seeds=5, model__width=WIDTHS)
    runs = [run | {"config": {**run["config"], "model": {"name": "mlp", "depth": 3}}} for run in runs]
    curves = others() | {"effective_rank_cosine": early}
    storage = study(tmp_path, runs, trace=trace, loss=loss, variables=VARIABLES[:2], others=curves)
    assert verdicts(storage, "bsc_transition")["The rank turns at a smaller width"] == "held"
    assert found(storage, "log2_ratio_of_breaks").value == pytest.approx(-2, abs=0.3)


def test_a_least_loss_at_the_last_epoch_asked_for_may_fall_yet(scaled: Storage):
    (scaling,) = scalings(View(scaled))
    assert replace(scaling, at_best=np.array([[399.0, 400, 999, 1000]])).out.tolist() == [[True, False, False, True]]


def test_the_trace_has_an_initial_phase_that_is_not_linear(tmp_path: Path):
    def turning(run: Row, step: int) -> float:
        return 10 * own(run) * (1 + 3 * abs(done(step) - 0.5))

    runs = networks(seeds=5, model__width=WIDTHS[:6])
    storage = study(tmp_path, runs, trace=turning, loss=loss, variables=VARIABLES[:2], others=others())
    assert verdicts(storage, "bsc_dynamics")["The trace is linear in ln L after an initial phase"] == "held"


def test_claims_of_alignment(scaled: Storage):
    assert set(verdicts(scaled, "bsc_alignment").values()) == {"held"}


def test_the_depth_sets_the_decline(tmp_path: Path):
    runs = networks(seeds=5, task=["mnist", "cifar10"], model__depth=[3, 4], model__width=WIDTHS)
    runs = [
        run | {"config": {**run["config"], "model": {"name": "mlp", "depth": run["varied"]["model.depth"]},
                          "task": {"name": run["varied"]["task"]}}}
        for run in runs
    ]  # fmt: skip

    def declining(run: Row, step: int) -> float:
        after = -0.3 if run["varied"]["model.depth"] == 3 else -0.8
        return 10 * own(run) * (1 + 3 * broken(0.0, after, run) * done(step))

    storage = study(tmp_path, runs, trace=declining, loss=loss, variables=VARIABLES[:2], others=others())
    told = verdicts(storage, "bsc_transition_depth")
    assert sum("shared by data sets" in name for name in told) == 2
    assert sum("set by depth" in name for name in told) == 2
    assert set(told.values()) == {"held"}


def test_draws_of_the_data_are_members_of_an_ensemble(tmp_path: Path):
    runs = networks(seeds=1, task__train_size=[64, 256, 1024, 4096], task__data_seed=[0, 1, 2, 3, 4])
    runs = [run | {"seed": 0} for run in runs]
    falling = lambda run, step: 100 - (100 - 60 * size(run) ** -0.3 * own(run)) * done(step)  # noqa: E731
    growing = lambda run, step: 10 * (1 + size(run) ** 0.4 * own(run) * done(step))  # noqa: E731
    curves = others() | {"effective_rank_cosine": falling}
    storage = study(tmp_path, runs, trace=growing, loss=loss, variables=VARIABLES[:2], others=curves)
    (scaling,) = scalings(View(storage))
    assert scaling.ensemble.members == tuple(f"seed=0 data_seed={seed}" for seed in range(5))
    told = verdicts(storage, "bsc_data_exponents")
    assert told == {
        "Power law of the least test loss in data": "held",
        "Power law of the Tr Θ₀ in data": "held",
        "Power law of the adaptation rate in data": "held",
        "Power law of the effective rank in data": "held",
    }
    assert verdicts(storage, "bsc_dynamics")["The effective rank is ordered down with data"] == "held"


def test_too_few_widths_and_diverged_runs_say_so(tmp_path: Path):
    runs = networks(seeds=5, model__width=[4, 8, 16])
    storage = study(tmp_path / "few", runs, trace=trace, loss=loss, variables=VARIABLES[:2], others=others())
    row = found(storage, "exponent_of_test_loss_least_by_width")
    assert math.isnan(row.value)
    assert row.text == "3 sizes with numbers, a power law takes 4: measure more"
    assert "6" in found(storage, "break_of_trace_ratio_by_width").text
    nowhere = study(
        tmp_path / "nan", networks(seeds=2, model__width=WIDTHS[:6]), trace=lambda run, step: math.nan, loss=loss,
        variables=VARIABLES[:2], others={**others(), "effective_rank_cosine": lambda run, step: math.nan},
    )  # fmt: skip
    findings = decided(nowhere, "bsc_model_exponents")
    assert {finding.verdict for finding in findings} == {"undecided"}


@pytest.mark.parametrize(("share", "verdict"), [(0.5, "held"), (0.0, "undecided")])
def test_claims_of_noise(tmp_path: Path, share: float, verdict: str):
    def falls_and_rises(run: Row, step: int) -> float:
        rise = 2 + share * 10 * (1 - run["varied"]["task.replaced"])
        return 30 - 50 * done(step) if done(step) < 0.4 else 10 + rise * (done(step) - 0.4)

    runs = networks(seeds=5, task__replaced=[0.0, 0.3, 0.6, 0.9])
    storage = study(
        tmp_path, runs, loss=loss, variables=VARIABLES[:2], others={"effective_rank_cosine": falls_and_rises}
    )
    told = verdicts(storage, "bsc_noise")
    assert told["The effective rank falls, then rises"] == "held"
    assert told["The effective rank rises the more, the more samples are distinct"] == verdict


def test_a_rank_that_only_falls_has_no_least_between(tmp_path: Path):
    runs = networks(seeds=5, task__replaced=[0.0, 0.5, 0.9])
    falls = {"effective_rank_cosine": lambda run, step: 30 - 10 * done(step)}
    storage = study(tmp_path, runs, loss=loss, variables=VARIABLES[:2], others=falls)
    assert verdicts(storage, "bsc_noise")["The effective rank falls, then rises"] == "failed"


def test_figures_and_report_are_made_of_it(scaled: Storage):
    view = View(scaled)
    for name in ("bsc_scaling", "bsc_transition", "bsc_dynamics", "bsc_alignment"):
        (drawing,) = FIGURES[name](view)
        assert drawing.figure.axes
        assert any(panel.lines for panel in drawing.figure.axes)
    options = {"figures": ["bsc_transition"], "claims": ["bsc_transition", "bsc_model_exponents"]}
    write_report(scaled, options)
    page = scaled.read("report.html").decode()
    assert "Power laws and their breaks" in page
    assert "log2 ratio of breaks" in page
    assert "> 250 and ≤ 1000".replace(">", "&gt;") in page


def test_a_turn_is_not_looked_for_beyond_the_widths(tmp_path: Path):
    runs = networks(seeds=5, model__width=[width for width in WIDTHS if width <= 256])
    storage = study(tmp_path, runs, trace=trace, loss=loss, variables=VARIABLES, others=others())
    turns = [each for each in decided(storage, "bsc_transition") if each.statement.startswith("Width")]
    assert [each.verdict for each in turns] == ["undecided"] * 2
    assert "sizes end at 256, and the turn may be at up to 1000" in turns[0].samples[0].note
