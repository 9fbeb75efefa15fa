"""Variables that compare a kernel with an earlier one."""
