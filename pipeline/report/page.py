"""The report as one HTML page without scripts or outside references, and its figures as files."""

import base64
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tangentscope.pipeline.report import formatting, summaries
from tangentscope.pipeline.report.claims import FEWEST_SEEDS
from tangentscope.pipeline.report.claims.decided import decide
from tangentscope.pipeline.report.derived import rows as derived_rows
from tangentscope.pipeline.report.derived.told import told
from tangentscope.pipeline.report.ends import values_at_end
from tangentscope.pipeline.report.figures import FIGURES, FULL_WIDTH, Drawing, render
from tangentscope.pipeline.report.methods import methods
from tangentscope.pipeline.report.view import SPLITS, View
from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.files import Storage

_RUNS_FILE = "runs.csv"
MOST_ROWS = 200  # of a table on the page; what is longer nobody reads, and a browser shows slowly
_LARGEST_SVG = 600_000  # bytes; a curve of very many points is lighter as pixels
_ALL_SVG = 5_000_000  # bytes of a page's figures; what comes after them is shown as pixels
_ALIKE = ("curves", "running_average")  # show the same variables: one does for a claim that the other would show


def write_report(storage: Storage, options: Mapping[str, Any] | None = None) -> list[str]:
    """Write ``report.html`` and its figures (PNG and PDF) from what is on a study's storage now.

    The study may still be going on: what is absent is said. The same data give the same figures, byte for byte.

    Args:
        storage: The study's storage.
        options: What to show, in place of what the study says.

    Returns:
        The names of the files written below the storage, the report first.

    Raises:
        UserError: There is no study in `storage`.
    """
    view = View(storage, options)
    drawings, notes = _drawings(view)
    names, images, room = [], [], _ALL_SVG
    for drawing in drawings:
        files = render(drawing.figure)
        fits = len(files["svg"]) <= min(room, _LARGEST_SVG)
        room -= len(files["svg"]) * fits
        for kind in ("png", "pdf"):
            names.append(f"figures/{drawing.name}.{kind}")
            storage.write(names[-1], files[kind])
        # All figures at one scale: text has one size on the page.
        width = drawing.figure.get_figwidth() / FULL_WIDTH
        images.append({"drawing": drawing, "uri": _data_uri(files, fits), "width": width})
    storage.write(layout.REPORT, _page(view, images, notes).encode())
    if len(view.runs) > MOST_ROWS:
        names.append(_RUNS_FILE)
        storage.write(_RUNS_FILE, summaries.runs_csv(view).encode())
    _remove_stale(storage, names)
    return [layout.REPORT, *names]


def _remove_stale(storage: Storage, names: Container[str]) -> None:
    """Remove figures of an earlier report that this one does not have; what else lies beside them is somebody's own."""
    for file in storage.list("figures"):
        stem, _, kind = file.rpartition(".")
        ours = kind in ("png", "pdf") and any(stem == name or stem.startswith(f"{name}-") for name in FIGURES)
        if ours and f"figures/{file}" not in names:
            storage.remove(f"figures/{file}")


def _drawings(view: View) -> tuple[list[Drawing], list[str]]:
    """The figures the study asks for (all there are by default), and a note for each that cannot be drawn."""
    asked = view.options.get("figures") or list(FIGURES)
    made: list[Drawing] = []
    notes = []
    for name in asked:
        if name not in FIGURES:
            notes.append(f'Figure "{name}" is not known to this version; known: {", ".join(FIGURES)}.')
        elif found := FIGURES[name](view):
            made += found
        else:
            notes.append(f'Figure "{name}" is not drawn: none of its variables has been measured.')
    return made, notes


def _data_uri(files: dict[str, bytes], vectors: bool) -> str:
    kind, media = ("svg", "image/svg+xml") if vectors else ("png", "image/png")
    return f"data:{media};base64,{base64.b64encode(files[kind]).decode()}"


def _shown_in(images: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The number of the first figure of each kind."""
    numbers_by_kind: dict[str, int] = {}
    for place, image in enumerate(images, 1):
        kind = max((name for name in FIGURES if image["drawing"].name.startswith(name)), key=len)
        numbers_by_kind.setdefault(kind, place)
    for kind, other in (_ALIKE, _ALIKE[::-1]):
        if other in numbers_by_kind:
            numbers_by_kind.setdefault(kind, numbers_by_kind[other])
    return numbers_by_kind


def _page(view: View, images: list[dict[str, Any]], notes: list[str]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(formatting.FILTERS)
    rows = summaries.run_rows(view)
    claims, claim_notes = decide(view, view.options.get("claims") or [])
    return environment.get_template("report.html").render(
        view=view,
        images=images,
        notes=notes,
        claims=claims,
        shown_in=_shown_in(images),
        derived=told(derived_rows(view)),
        methods=methods(view),
        claim_notes=claim_notes,
        fewest_seeds=FEWEST_SEEDS,
        rows=rows,
        states=Counter(row.state for row in rows),
        splits=[
            split
            for split in SPLITS
            if any(row.loss[split] is not None or row.score[split] is not None for row in rows)
        ],
        results_on=summaries.results_on(view),
        chosen=summaries.chosen_scores(view, rows),
        span=_span(view),
        most_rows=MOST_ROWS,
        runs_file=_RUNS_FILE,
        ends=values_at_end(view),
        planned=summaries.planned_measurements(view),
        gaps=summaries.gaps(view),
        faults=view.faults,
        costs=summaries.cost_rows(view),
        lags=summaries.lags(view),
        failed_runs=[(run.name, view.outcomes[run.id]) for run in view.runs if _failed(view, run.id)],
        failed_measurements=summaries.failed_measurements(view),
        data=_data(view),
    )


def _failed(view: View, run: str) -> bool:
    return run in view.outcomes and view.outcomes[run].state == "failed"


def _span(view: View) -> tuple[float, float] | None:
    """Seconds since 1970 of the first start of a run that ended, else of the launch, and of the last record."""
    starts = [outcome.started_at for outcome in view.outcomes.values() if outcome.started_at]
    starts += [view.provenance["started_at"]] if view.provenance.get("started_at") else []
    ends = [outcome.ended_at for outcome in view.outcomes.values() if outcome.ended_at]
    ends += [float(np.max(frame["recorded_at"])) for frame in (view.measurements, view.history) if len(frame)]
    return (min(starts), max(ends)) if starts and ends else None


def _data(view: View) -> list[str]:
    """What the runs trained on, one sentence per distinct data set, its sizes and which outputs kernels are of."""
    sentences = []
    for run in view.runs:
        counts = {**run.data.sizes, "outputs": run.data.outputs}
        sizes = [f"{counts[key]:,} {what}" for key, what in _SIZES.items() if counts.get(key) is not None]
        sentence = ": ".join(filter(None, [run.data.source, ", ".join(sizes)]))
        sentences.append("; kernels of ".join(filter(None, [sentence, run.observes])))
    sentences += [f"stages: {probe.source}" for probe in view.plan.further if probe.source]
    known = [sentence for sentence in dict.fromkeys(sentences) if sentence]
    return known or [str(sentence) for sentence in (view.provenance.get("data") or {}).values()]


_SIZES = {"train": "for training", "test": "for testing", "valid": "for choosing", "outputs": "outputs"}
