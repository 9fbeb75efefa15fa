"""Variables that hold a kernel against labels and classes."""
