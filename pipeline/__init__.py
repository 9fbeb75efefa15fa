"""The pipeline: from a study file to trained runs, measured snapshots, MLflow runs, tables and figures.

>>> import pipeline
>>> measurements = pipeline.load("results/quickstart")  # doctest: +SKIP
"""

from pipeline.store import load

__all__ = ["load"]
