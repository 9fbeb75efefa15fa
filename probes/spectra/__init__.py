"""Eigenvalues of kernels."""
