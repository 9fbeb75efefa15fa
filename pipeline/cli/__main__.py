"""``python -m tangentscope.pipeline.cli``, as ``python -m tangentscope``."""

from tangentscope.pipeline.cli import enter

enter()
