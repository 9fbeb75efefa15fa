"""The command ``tangentscope``."""

from tangentscope.pipeline.cli.commands import app, enter, main

__all__ = ["app", "enter", "main"]
