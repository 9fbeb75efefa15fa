"""Variables of a kernel's diagonal."""
