"""One colour per value of a varied field, told apart by colour-blind readers too."""

from collections.abc import Sequence
from typing import Any

import matplotlib

from tangentscope.pipeline.report.view import value_label

_ONE = "#1f4e8c"
# Okabe and Ito (2008), without the yellow and the black that vanish on white or read as text.
_CATEGORIES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]


def colours(values: Sequence[Any]) -> dict[str, Any]:
    """Colours by label, in the order of a legend.

    Numbers are sorted and get evenly spaced colours of viridis: by rank, so that widths 8, 32, 128, 512 are as far
    apart as depths 2, 3, 4. Few categories get distinct hues in the order given.
    """
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    labels = list(dict.fromkeys(value_label(value) for value in (sorted(values) if numeric else values)))
    if len(labels) < 2:
        return dict.fromkeys(labels, _ONE)
    if not numeric and len(labels) <= len(_CATEGORIES):
        return dict(zip(labels, _CATEGORIES, strict=False))
    viridis = matplotlib.colormaps["viridis"]
    # The last, yellow end is too light for a line on white.
    return {label: viridis(0.88 * rank / (len(labels) - 1)) for rank, label in enumerate(labels)}
