"""Variables of a kernel's eigenvalues."""
