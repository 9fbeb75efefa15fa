"""MLflow as a projection of the store: all that names it."""
