"""The page that compares studies."""

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tangentscope.pipeline.report import formatting
from tangentscope.pipeline.report.compare.differences import configs, ends, versions
from tangentscope.pipeline.report.compare.overlays import overlays
from tangentscope.pipeline.report.compare.shared import shared
from tangentscope.pipeline.report.figures import FULL_WIDTH, render
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import UserError

PAGE = "compare.html"
_FEWEST = 2


def compare(storages: Sequence[Storage], out: Storage) -> list[str]:
    """Overlay studies on one page, ``compare.html``, with its figures beside it as PNG and PDF.

    Args:
        storages: The studies', in the order of their colours.
        out: Where the page is written.

    Returns:
        The names of the files written, the page first.

    Raises:
        UserError: Fewer than two studies, one given twice, no study in one, or no variable that all of them measure.
    """
    if len(storages) < _FEWEST:
        raise UserError(f"compare: got {len(storages)} study, expected two or more; give their results' directories")
    if len({storage.uri for storage in storages}) < len(storages):
        raise UserError("compare: got a study twice; give each once")
    views = [View(storage) for storage in storages]
    names = _names(views)
    found = shared(views)
    files: list[str] = []
    images = []
    for drawing in overlays(views, names, found):
        rendered = render(drawing.figure)
        for kind in ("png", "pdf"):
            files.append(f"figures/{drawing.name}.{kind}")
            out.write(files[-1], rendered[kind])
        uri = f"data:image/svg+xml;base64,{base64.b64encode(rendered['svg']).decode()}"
        images.append({"drawing": drawing, "uri": uri, "width": drawing.figure.get_figwidth() / FULL_WIDTH})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(formatting.FILTERS)
    page = environment.get_template(PAGE).render(
        names=names,
        views=views,
        images=images,
        configs=configs(views),
        versions=versions(views),
        tables=[(one, rows) for one in found if (rows := ends(views, one))],
    )
    out.write(PAGE, page.encode())
    return [PAGE, *files]


def _names(views: Sequence[View]) -> list[str]:
    """The studies' names; numbered where two have the same."""
    names = [view.name for view in views]
    return [name if names.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(names)]
