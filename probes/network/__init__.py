"""A network as a deterministic function of data points."""
