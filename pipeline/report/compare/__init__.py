"""Several studies on one page: the same figures with a colour a study, and what sets them apart."""

from tangentscope.pipeline.report.compare.page import compare

__all__ = ["compare"]
