"""Which parameters meet the batch where, and the cheap forms of their per-sample gradients."""
