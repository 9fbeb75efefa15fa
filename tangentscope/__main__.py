"""``python -m tangentscope``: the command."""

from tangentscope.pipeline.cli import enter

enter()
