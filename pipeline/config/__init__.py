"""Configs of tasks, models, optimisers and training, and the look-up of one by its name."""
