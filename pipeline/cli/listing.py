"""What `ls` and `cite` print."""

import inspect
from collections.abc import Iterator

from tangentscope.models import MODELS
from tangentscope.pipeline.config.optimisers import OPTIMISERS
from tangentscope.probes import FEATURE_VARIABLES, VARIABLES, givens_of
from tangentscope.studies import shipped
from tangentscope.tasks import TASKS

CITATION = """\
Collective variables (entropy and trace of the tangent kernel), and the experiments this tool repeats:

@misc{tovey2024collective,
  title         = {Collective variables of neural networks: empirical time evolution and scaling laws},
  author        = {Tovey, Samuel and Krippendorf, Sven and Spannowsky, Michael and Nikolaou, Konstantin
                   and Holm, Christian},
  year          = {2024},
  eprint        = {2410.07451},
  archivePrefix = {arXiv}
}

The software:

@software{tangentscope,
  title = {tangentscope: the neural tangent kernel while networks learn},
  year  = {2026}
}"""


def entries(what: str) -> Iterator[tuple[str, str]]:
    """Name and one line about each entry of a table."""
    if what == "variables":
        for name, variable in VARIABLES.items():
            # Treatment and number of points are always given.
            needs = sorted(givens_of(name) - {"outputs", "points"})
            told = variable.kind + (f"; needs {', '.join(needs)}" if needs else "")
            yield name, f"{_first_line(variable.compute)} ({variable.source}) [{told}]"
        for name, variable in FEATURE_VARIABLES.items():
            yield name, f"{_first_line(variable.compute)} ({variable.source}) [{variable.kind} of features]"
    elif what == "studies":
        for name, path in shipped().items():
            yield name, path.read_text().partition("\n")[0].lstrip("# ")
    else:
        tables: dict[str, dict[str, type]] = {"tasks": TASKS, "models": MODELS, "optimisers": OPTIMISERS}
        for name, cls in tables[what].items():
            fields = ", ".join(field for field in cls.model_fields if field != "name")  # pyright: ignore
            yield name, f"{_first_line(cls)} [{fields}]"


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]
