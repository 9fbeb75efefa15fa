"""Claims: verdicts from numbers by seed, and what studies with a known onset say to those of CV fig. 3c."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_study import Row, a_run, probe, write_study

from tangentscope import pipeline
from tangentscope.pipeline.report.claims import CLAIMS, Finding, Sample
from tangentscope.pipeline.report.figures.onset import onset
from tangentscope.pipeline.report.page import write_report
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.files import Storage

STEPS = 160
PARTS = [probe("train", probe=f"{part}-probe", part=part, draws=5, variables=["trace", "entropy"])
         for part in ("actor", "critic")]  # fmt: skip
GAMES = ["entropy_before_return", "actor_jumps_most"]
REPORT = {"figures": ["onset"], "claims": GAMES, "x": "episode", "log_x": True}


def finding(values: list[float | None], coarse: float = 0.0, **margins: float) -> Finding:
    samples = [Sample(f"seed={k}", value, "", below=coarse, above=coarse) for k, value in enumerate(values)]
    return Finding("statement", "statistic", samples, "reason", **margins)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1, 1, 1, 1, 1], "held"),
        ([0.5, 0.6, 0.7, 0.8, 0.9], "held"),
        ([3, 4, 5, 4, 3], "failed"),
        ([-3, -4, 0, -4, -3], "failed"),
        ([-1, 2, 0, 1, 3], "undecided"),
        ([1, 1, 1, 1], "undecided"),
        ([1, 1, 1, 1, None], "undecided"),
        ([1], "undecided"),
        ([None] * 5, "undecided"),
    ],
)
def test_a_verdict_takes_five_seeds_and_an_interval_on_one_side(values: list[float | None], verdict: str):
    assert finding(values, above=0.0, at_most=1.0).verdict == verdict


def test_what_was_measured_coarsely_widens_the_interval():
    assert finding([1.0] * 5, above=0.0).verdict == "held"
    coarse = finding([1.0] * 5, coarse=2.0, above=0.0)
    assert (coarse.interval, coarse.verdict) == ((-1.0, 3.0), "undecided")


def test_the_interval_is_the_bootstraps_and_the_same_each_time():
    values = [1.0, 2.0, 3.0, 4.0, 10.0]
    rng = np.random.default_rng(1)
    means = rng.choice(values, size=(20_000, 5)).mean(axis=1)
    assert finding(values).interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.25)
    assert finding(values).interval == finding(values).interval


def games(
    root: Path, entropy_at: float, return_at: float | None = 80, seeds: int = 5, every: int = 1, **changes: float
) -> Storage:
    """Runs that play three games an iteration; their return, and entropy and trace of both parts, jump when told.

    Seed by seed a little later. ln Tr of the actor jumps by `actor`, of the critic by `critic`.
    """
    schedule = list(range(0, STEPS + 1, every))
    jumps = {"actor": changes.get("actor", 2.0), "critic": changes.get("critic", 0.5)}
    config = a_run()["config"] | {"train": {"environments": 6}}
    about = {
        "config": config,
        "score": "return",
        "steps": STEPS,
        "schedule": schedule,
        "probes": [how["probe"] for how in PARTS],
    }
    runs = [a_run(seed) | about for seed in range(seeds)]
    later = {run["run"]: 4 * run["seed"] for run in runs}

    def change(row: Row) -> Row:
        part = row["probe"].removesuffix("-probe")
        noise = 0.01 * np.random.default_rng([later[row["run"]], row["step"]]).normal()
        risen = row["step"] > entropy_at + later[row["run"]]
        value = 1.0 + risen if row["variable"] == "entropy" else np.exp(5 + jumps[part] * risen)
        return row | {"value": float(value * (1 + noise))}

    storage = write_study(root, runs, probes=PARTS, report=REPORT, change=change)
    for run in runs:
        rng = np.random.default_rng(run["seed"])
        own = {"run": run["run"], "attempt": 1, "split": "train", "recorded_at": 0.0}
        rows = []
        for step in range(STEPS + 1):
            where = own | {"step": step, "epoch": float(step)}
            rows.append(where | {"variable": "episodes", "value": 3.0 * step})
            if step and step % 11 != 2:  # in some iterations no game ends
                up = 10.0 * (return_at is not None and step > return_at + later[run["run"]])
                rows.append(where | {"variable": "return", "value": -20 + up + 0.1 * rng.normal()})
        tables.write_part(storage, "history", rows, "played")
    return storage


def findings(storage: Storage) -> dict[str, Finding]:
    view = View(storage)
    return {name: found for name in GAMES for found in CLAIMS[name](view)}


@pytest.mark.parametrize(("entropy_at", "verdict", "apart"), [(79, "held", 1), (60, "failed", 20), (90, "failed", -10)])
def test_an_entropy_that_rises_an_iteration_earlier_holds(tmp_path: Path, entropy_at: int, verdict: str, apart: float):
    found = findings(games(tmp_path, entropy_at))["entropy_before_return"]
    assert found.values == [apart] * 5
    assert found.verdict == verdict
    note = found.samples[0].note
    assert "return begins to rise between iterations 80 and 81 (episodes 240 and 243)" in note
    assert f"{3 * apart} episodes between; a game lasts 2.0 iterations".replace("-", "−") in note


def test_steps_far_apart_leave_it_undecided(tmp_path: Path):
    found = findings(games(tmp_path, 79, every=8))["entropy_before_return"]
    assert found.interval is not None
    assert found.interval[0] < 0 < 1 < found.interval[1]
    assert found.verdict == "undecided"


def test_claims_are_a_table_for_notebooks_with_what_failed_first(tmp_path: Path):
    games(tmp_path, 60)
    table = pipeline.load(tmp_path, "claims").set_index("claim")
    assert table["verdict"].to_dict() == {"entropy_before_return": "failed", "actor_jumps_most": "held"}
    failed = table.loc["entropy_before_return"]
    assert failed["value"] == failed["low"] == failed["high"] == 20
    assert (failed["seeds"], failed["margin"], failed["why"]) == (5, "> 0 and ≤ 1", "")
    assert list(table.index) == ["entropy_before_return", "actor_jumps_most"]


@pytest.mark.parametrize(("actor", "critic", "verdict"), [(2.0, 0.5, "held"), (0.2, 1.5, "failed")])
def test_jumps_of_actor_and_critic_are_compared_at_the_onset(tmp_path: Path, actor: float, critic: float, verdict: str):
    found = findings(games(tmp_path, 79, actor=actor, critic=critic))["actor_jumps_most"]
    assert found.values == pytest.approx([actor - critic] * 5, abs=0.1)
    assert found.verdict == verdict


def test_the_page_says_verdicts_and_what_is_missing(tmp_path: Path):
    names = write_report(games(tmp_path / "five", 79))
    page = (tmp_path / "five/report.html").read_text()
    assert "figures/onset.png" in names
    assert 'class="verdict held">held' in page
    few = games(tmp_path / "two", 79, return_at=None, seeds=2)
    write_report(few)
    page = (tmp_path / "two/report.html").read_text()
    assert 'class="verdict undecided">undecided' in page
    assert 'class="verdict held"' not in page
    assert "0 of the 5 seeds that a verdict takes" in page
    assert "return has no onset" in page


def test_runs_that_have_not_finished_do_not_count(tmp_path: Path):
    storage = games(tmp_path, 79)
    (tmp_path / f"runs/{a_run(0)['run']}/outcome.json").unlink()
    found = findings(storage)["entropy_before_return"]
    assert (found.samples[0].value, found.samples[0].note) == (None, "under way")
    assert found.verdict == "undecided"


def test_a_study_without_games_has_no_such_claims(tmp_path: Path):
    report = {"figures": ["onset"], "claims": ["entropy_before_return", "unheard"], "x": "epoch", "log_x": True}
    storage = write_study(tmp_path, [a_run()], report=report)
    assert onset(View(storage)) == []
    write_report(storage)
    page = (tmp_path / "report.html").read_text()
    assert "Claim &#34;entropy_before_return&#34; is not looked at" in page
    assert "Claim &#34;unheard&#34; is not known" in page


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"entropy_at": 79}, "Return − entropy: 3 episodes (1 iterations)"),
        ({"entropy_at": 79, "seeds": 1}, "Return − entropy: 3 episodes (1 iterations)\nknown to within 3"),
        ({"entropy_at": 79, "every": 8, "seeds": 1}, "known to within 24"),
        ({"entropy_at": 79, "return_at": None, "seeds": 1}, "No onset of the return"),
        ({"entropy_at": 999, "return_at": None, "seeds": 1}, "No onset of the return nor of the entropy"),
    ],
    ids=["five seeds", "one", "sparse", "no return", "neither"],
)
def test_the_figure_marks_onsets_and_says_how_far_they_are_apart(tmp_path: Path, how: Row, said: str):
    (drawing,) = onset(View(games(tmp_path, **how)))
    returned, entropy, trace = drawing.figure.axes
    assert said in returned.get_title(loc="left")
    assert (returned.get_ylabel(), trace.get_ylabel()) == ("Return", "ln Tr Θ")
    assert [text.get_text() for text in entropy.get_legend().get_texts()] == ["actor", "critic"]
    dashed = [line for line in trace.get_lines() if line.get_linestyle() == "--"]
    both = (how.get("return_at", 80) is not None) + (how["entropy_at"] < STEPS)
    assert len(dashed) == both * how.get("seeds", 5)


def test_kernels_of_all_outputs_alone_will_do(tmp_path: Path):
    storage = games(tmp_path, 79, seeds=1)
    plan = storage.read_json("plan.json")
    del plan["probes"][0]["part"], plan["probes"][1:]
    plan["runs"][0]["probes"] = ["actor-probe"]
    storage.write_json("plan.json", plan)
    (drawing,) = onset(View(storage))
    assert "Return − entropy: 3 episodes" in drawing.figure.axes[0].get_title(loc="left")
    found = findings(storage)
    assert "all outputs" in found["entropy_before_return"].statement
    assert "actor_jumps_most" not in found
