"""Variables of how outputs and loss move at one step of training."""
