"""A training loop of the user's own, watched from within it."""
