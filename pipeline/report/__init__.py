"""The report of a study: figures in the papers' manner and one self-contained HTML page, from the store alone."""

from tangentscope.pipeline.report.page import write_report

__all__ = ["write_report"]
