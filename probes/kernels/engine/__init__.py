"""Blocks of a kernel: backward sweeps, stores of gradients, and their products."""
