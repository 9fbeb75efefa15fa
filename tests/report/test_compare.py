"""Studies on one page: what they share is overlaid, what differs is listed, what cannot be compared is one line."""

from pathlib import Path

import numpy as np
import pytest
from claimed_study import networks, study
from synthetic_study import Row

from tangentscope.pipeline.cli.commands import app
from tangentscope.pipeline.report.claims.findings import bootstrap_interval
from tangentscope.pipeline.report.compare import compare
from tangentscope.pipeline.report.compare.differences import configs, ends, versions
from tangentscope.pipeline.report.compare.overlays import overlays
from tangentscope.pipeline.report.compare.shared import shared
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import UserError


def level(height: float):
    return lambda run, step: height + 0.1 * run["seed"]


def with_rate(runs: list[Row], rate: float) -> list[Row]:
    return [run | {"config": run["config"] | {"optimiser": {"name": "sgd", "lr": rate}}} for run in runs]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Storage]:
    root = tmp_path_factory.mktemp("two")
    first = study(root / "a", with_rate(networks(seeds=3), 0.1), level(1.0), name="first")
    second = study(root / "b", with_rate(networks(seeds=3), 0.2), level(2.0), name="second", variables=("entropy",))
    return [first, second]


def test_only_what_all_measure_is_overlaid_in_a_colour_a_study(two: list[Storage]):
    views = [View(storage) for storage in two]
    found = shared(views)
    assert [(one.variable, one.split) for one in found] == [
        ("entropy", "test"), ("entropy", "train"), ("loss", "test"), ("loss", "train"),
        ("score", "test"), ("score", "train"),
    ][: len(found)]  # fmt: skip
    test, train = overlays(views, ["first", "second"], found)
    assert (test.name, train.name) == ("compare-test", "compare-train")
    panel = test.figure.axes[0]
    heights = [np.nanmean(np.asarray(line.get_ydata(), dtype=float)) for line in panel.lines]
    assert heights == pytest.approx([1.1, 2.1])
    assert panel.lines[0].get_color() != panel.lines[1].get_color()
    assert "first: 1 network, 3 runs; second: 1 network, 3 runs" in test.caption


def test_differences_are_listed_and_likenesses_are_not(two: list[Storage]):
    views = [View(storage) for storage in two]
    rows = {row.field: row.values for row in configs(views)}
    assert rows["optimiser.lr"] == ["0.1", "0.2"]
    assert rows["variables"] == ["trace, entropy", "entropy"]
    assert "task.name" not in rows
    assert versions(views) == []


def test_values_at_the_end_have_intervals(two: list[Storage]):
    views = [View(storage) for storage in two]
    entropy = shared(views)[0]
    first, second = ends(views, entropy)
    assert (first.study, first.mean, first.seeds) == (0, pytest.approx(1.1), 3)
    assert second.interval == bootstrap_interval([2.0, 2.1, 2.2])


def test_the_page_is_written_with_its_figures(two: list[Storage], tmp_path: Path):
    paths = [str(storage.uri) for storage in two]
    command, bound, *_ = app.parse_args(["compare", *paths, "--out", str(tmp_path)], exit_on_error=False)
    command(*bound.args, **bound.kwargs)
    page = (tmp_path / "compare.html").read_text()
    assert "first, second" in page
    assert "optimiser.lr" in page
    assert page.count("data:image/svg+xml") == 2
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "compare-test.pdf", "compare-test.png", "compare-train.pdf", "compare-train.png",
    ]  # fmt: skip


def test_studies_that_share_nothing_are_one_line(tmp_path: Path):
    storages = [
        study(tmp_path / name, networks(seeds=1), variables=(name,), name=f"of-{name}") for name in ("entropy", "trace")
    ]
    with pytest.raises(UserError, match=r"^compare: .*of-entropy: entropy; of-trace: trace") as caught:
        compare(storages, Storage.at(tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_two_different_studies(two: list[Storage], count: int, tmp_path: Path):
    with pytest.raises(UserError, match=f"got {count} study" if count < 2 else "a study twice"):
        compare([two[0]] * count, Storage.at(tmp_path))
